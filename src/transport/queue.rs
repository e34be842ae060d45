/// The bounded outbound queue of a [driven](crate::TransportExt::drive) transport.
#[derive(Debug)]
pub struct Queue<Out>(std::marker::PhantomData<Out>);
