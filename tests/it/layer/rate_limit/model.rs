use super::*;
use proptest::prelude::*;

const INTERVAL: u64 = 100;

/// A bucket as one would explain it, in milliseconds of cells.
struct Bucket {
    full: u64,
    level: u64,
}

impl Bucket {
    fn pass(&mut self, time: u64) {
        self.level = self.full.min(self.level + time);
    }

    fn take(&mut self, cells: u32) -> bool {
        let cost = u64::from(cells) * INTERVAL;
        let is_enough = self.level >= cost;
        self.level -= if is_enough { cost } else { 0 };
        is_enough
    }
}

fn paused<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(test)
}

/// In every window of time at most a burst, and what came back in it.
fn check_windows(passed: &[(u64, u32)], burst: u32) {
    for (first, &(from, _)) in passed.iter().enumerate() {
        let mut sum = 0;
        for &(until, cost) in &passed[first..] {
            sum += u64::from(cost);
            assert!(sum * INTERVAL <= u64::from(burst) * INTERVAL + (until - from), "{sum} from {from} to {until} ms");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_rejected_is_what_a_bucket_of_that_size_would_reject(
        burst in 1_u32..20,
        steps in prop::collection::vec((0_u64..400, 1_u32..20), 1..60),
    ) {
        paused(async {
            let layer = per_connection(burst).cost_by(|cost: &u32| *cost).reject();
            let (near, _far) = channel::<u32, u32>(1024);
            let mut near = near.layer(layer);
            let mut model = Bucket { full: u64::from(burst) * INTERVAL, level: u64::from(burst) * INTERVAL };
            for (time, cost) in steps {
                advance(ms(time)).await;
                model.pass(time);
                match try_send(&mut near, cost) {
                    Ok(sent) => assert!(sent && model.take(cost)),
                    Err(error) if cost > burst => assert!(error.is_too_large()),
                    Err(error) => {
                        assert!(error.is_rate_limited() && !model.take(cost));
                        let missing = u64::from(cost) * INTERVAL - model.level;
                        assert_eq!(error.retry_after(), Some(ms(missing)));
                    }
                }
            }
        });
    }

    #[test]
    fn what_comes_in_never_passes_faster_than_the_quota_and_all_of_it_does(
        burst in 1_u32..20,
        steps in prop::collection::vec((0_u64..400, 1_u32..20), 1..60),
    ) {
        paused(async {
            let (near, mut far) = channel::<u32, u32>(1024);
            let mut near = near.layer(per_connection(burst).cost_by(|cost: &u32| *cost));
            let start = tokio::time::Instant::now();
            let costs: Vec<_> = steps.iter().map(|(_, cost)| *cost).filter(|cost| *cost <= burst).collect();
            let receive = async {
                let mut passed = Vec::new();
                while let Some(item) = near.next().await {
                    match item {
                        Ok(cost) => passed.push((start.elapsed().as_millis() as u64, cost)),
                        Err(error) => assert!(error.is_too_large()),
                    }
                }
                passed
            };
            let send = async {
                for (time, cost) in &steps {
                    tokio::time::sleep(ms(*time)).await;
                    far.send(*cost).await.unwrap();
                }
                far.close().await.unwrap();
            };
            let (passed, ()) = tokio::join!(receive, send);
            assert_eq!(passed.iter().map(|(_, cost)| *cost).collect::<Vec<_>>(), costs);
            check_windows(&passed, burst);
        });
    }

    #[test]
    fn what_goes_out_never_passes_faster_than_the_quota(
        burst in 1_u32..20,
        steps in prop::collection::vec(0_u64..400, 1..60),
    ) {
        paused(async {
            let (near, mut far) = channel::<u32, u32>(1024);
            let mut near = near.layer(per_connection(burst));
            let start = tokio::time::Instant::now();
            let mut passed = Vec::new();
            for time in steps {
                tokio::time::sleep(ms(time)).await;
                near.send(1).await.unwrap();
                assert!(far.next().await.is_some());
                passed.push((start.elapsed().as_millis() as u64, 1));
            }
            check_windows(&passed, burst);
        });
    }
}
