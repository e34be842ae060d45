//! The members of a topic.

use std::{collections::BTreeMap, thread};

use futures_util::{FutureExt, StreamExt};
use proptest::prelude::*;
use tower_transport::topic::{Change, Presence, PresenceEvent, Present, Watcher};

type Room = Presence<String, u32, u32>;

fn room(max: usize) -> Room {
    Presence::new(max.try_into().unwrap())
}

/// Applies what a watcher is told. Returns the number of items.
fn follow(watcher: &mut Watcher<String, u32, u32>, known: &mut BTreeMap<u32, u32>) -> usize {
    let mut items = 0;
    while let Some(Some(event)) = watcher.next().now_or_never() {
        items += 1;
        match event {
            PresenceEvent::Change(change) => match *change.message() {
                Change::Joined { id, value } => drop(known.insert(id, value)),
                Change::Left { id } => drop(known.remove(&id)),
            },
            PresenceEvent::Reset => known.clear(),
            _ => panic!("an unknown event"),
        }
    }
    items
}

#[test]
fn a_watcher_is_told_who_is_present_then_each_change() {
    let room = room(10);
    let [ada, bob] = [(1, 10), (2, 20)].map(|(id, value)| room.join("a", id, value).unwrap());
    let _elsewhere = room.join("b", 3, 30).unwrap();
    let (mut watcher, mut known) = (room.watch("a").unwrap(), BTreeMap::new());
    assert_eq!(follow(&mut watcher, &mut known), 2);
    assert_eq!(known, [(1, 10), (2, 20)].into());
    bob.update(21);
    drop(ada);
    assert_eq!(follow(&mut watcher, &mut known), 2);
    assert_eq!(known, [(2, 21)].into());
    let members = room.members("a").unwrap();
    assert_eq!(
        members.iter().map(|member| *member.message()).collect::<Vec<_>>(),
        [Change::Joined { id: 2, value: 21 }]
    );
}

#[test]
fn a_key_that_joins_twice_leaves_with_the_last() {
    let room = room(10);
    let (mut watcher, mut known) = (room.watch("a").unwrap(), BTreeMap::new());
    let [phone, desk] = [1, 2].map(|value| room.join("a", 7, value).unwrap());
    drop(desk);
    follow(&mut watcher, &mut known);
    assert_eq!(known, [(7, 2)].into());
    drop(phone);
    assert_eq!(follow(&mut watcher, &mut known), 1);
    assert!(known.is_empty() && room.members("a").unwrap().is_empty());
}

#[test]
fn a_topic_has_no_more_members_than_it_may_and_nobody_is_evicted() {
    let room = room(2);
    let first = room.join("a", 1, 1).unwrap();
    let _second = room.join("a", 2, 2).unwrap();
    assert!(room.join("a", 3, 3).unwrap_err().is_full());
    let _first_again = room.join("a", 1, 4).unwrap();
    drop(first);
    assert!(room.join("a", 3, 3).unwrap_err().is_full());
    assert_eq!(room.members("a").unwrap().len(), 2);
}

#[test]
fn churn_that_a_watcher_does_not_see_costs_it_one_change_for_each_member() {
    let room = room(10);
    let (mut watcher, mut known) = (room.watch("a").unwrap(), BTreeMap::new());
    assert_eq!(follow(&mut watcher, &mut known), 0);
    let stays = room.join("a", 0, 0).unwrap();
    for turn in 0..1000 {
        drop(room.join("a", turn % 5 + 1, turn));
    }
    assert_eq!(follow(&mut watcher, &mut known), 6);
    assert_eq!(known, [(0, 0)].into());
    drop(stays);
}

#[test]
fn a_watcher_that_missed_more_than_its_bound_begins_again() {
    let room = room(4);
    let (mut watcher, mut known) = (room.watch("a").unwrap(), BTreeMap::new());
    let _stays = room.join("a", 0, 7).unwrap();
    assert_eq!(follow(&mut watcher, &mut known), 1);
    for id in 1..100 {
        drop(room.join("a", id, 0));
    }
    let _new = room.join("a", 1000, 8).unwrap();
    assert!(follow(&mut watcher, &mut known) <= 17);
    assert_eq!(known, [(0, 7), (1000, 8)].into());
}

#[test]
fn a_topic_without_members_and_watchers_is_forgotten() {
    let room = room(4);
    for id in 0..100 {
        drop(room.join(&id.to_string(), id, 0));
    }
    assert!(format!("{room:?}").contains("topics: 0"), "{room:?}");
}

#[test]
fn joins_and_leaves_on_many_threads_end_in_the_truth() {
    let room = room(64);
    let (mut watcher, mut known) = (room.watch("a").unwrap(), BTreeMap::new());
    let stay: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|thread| {
                let room = &room;
                scope.spawn(move || {
                    for turn in 0..2000 {
                        drop(room.join("a", turn % 7, thread));
                    }
                    room.join("a", 100 + thread, thread).unwrap()
                })
            })
            .collect();
        for _ in 0..200 {
            follow(&mut watcher, &mut known);
            thread::yield_now();
        }
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    follow(&mut watcher, &mut known);
    assert_eq!(known.into_keys().collect::<Vec<_>>(), [100, 101, 102, 103]);
    drop(stay);
}

proptest! {
    #[test]
    fn whatever_the_schedule_a_watcher_that_reads_knows_who_is_present(
        steps in prop::collection::vec((0u8..4, 0u32..12, any::<u32>()), 0..200),
        max in 1usize..8,
    ) {
        let room = room(max);
        let mut guards: Vec<(u32, Present<String, u32, u32>)> = Vec::new();
        let mut truth = BTreeMap::new();
        let (mut watcher, mut known) = (room.watch("a").unwrap(), BTreeMap::new());
        for (step, id, value) in steps {
            match step {
                0 | 1 => match room.join("a", id, value) {
                    Ok(guard) => {
                        truth.insert(id, value);
                        guards.push((id, guard));
                    }
                    Err(error) => {
                        prop_assert!(error.is_full());
                        prop_assert!(truth.len() == max && !truth.contains_key(&id));
                    }
                },
                2 if !guards.is_empty() => {
                    let (id, guard) = guards.swap_remove(value as usize % guards.len());
                    drop(guard);
                    if guards.iter().all(|(other, _)| *other != id) {
                        truth.remove(&id);
                    }
                }
                _ => {
                    follow(&mut watcher, &mut known);
                    prop_assert_eq!(&known, &truth);
                    let mut late = BTreeMap::new();
                    follow(&mut room.watch("a").unwrap(), &mut late);
                    prop_assert_eq!(&late, &truth);
                }
            }
        }
        follow(&mut watcher, &mut known);
        prop_assert_eq!(&known, &truth);
    }
}
