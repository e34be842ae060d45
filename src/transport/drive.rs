use crate::transport::Queue;
use std::marker::PhantomData;
/// x
#[derive(Debug)]
pub struct Driver<T, Out>(PhantomData<(T, Out)>);
/// x
#[derive(Debug)]
pub struct Sender<Out>(PhantomData<Out>);
/// x
#[derive(Debug)]
pub struct Receiver<In>(PhantomData<In>);
pub(super) fn drive<T, Out, In>(_: T, _: Queue<Out>) -> (Sender<Out>, Receiver<In>, Driver<T, Out>) {
    (Sender(PhantomData), Receiver(PhantomData), Driver(PhantomData))
}
