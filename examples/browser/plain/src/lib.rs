//! A chat client in WebAssembly: a class for JavaScript, with wasm-bindgen and no framework.

use std::future::Future;

use futures_util::{
    StreamExt,
    future::{AbortHandle, abortable},
};
use js_sys::Function;
use serde::{Deserialize, Serialize};
use tower::ServiceBuilder;
use tower_transport::{
    QueueConfig, Sender, ServiceBuilderExt, TransportExt, codec::JsonCodec, layer::reconnect::State,
    stack::OptimizedTransport, transport::websocket::WebSocketConnector,
};
use wasm_bindgen::{JsError, JsValue, prelude::wasm_bindgen};
use wasm_bindgen_futures::spawn_local;

/// A message of the chat, in both directions.
#[derive(Serialize, Deserialize)]
struct Said {
    name: String,
    text: String,
}

/// A connection to the chat. It reconnects automatically and resumes its session, so that a cut loses no message.
///
/// `free()` closes it, and calls no callback from then on.
#[wasm_bindgen]
pub struct Chat {
    sender: Sender<Said>,
    tasks: [AbortHandle; 2],
}

#[wasm_bindgen]
impl Chat {
    /// Connects to `url`.
    ///
    /// The callbacks are `onstate(text, isConnected)`, `onsaid(name, text)` and `onerror(text)`.
    #[wasm_bindgen(constructor)]
    pub fn new(url: &str, onstate: Function, onsaid: Function, onerror: Function) -> Self {
        // A first attempt that fails is retried like a connection that is lost later.
        let transport = OptimizedTransport::builder().connect_lazily(WebSocketConnector::new(), url);
        let handle = transport.handle();
        let typed = ServiceBuilder::new().codec(JsonCodec::<Said>::new()).service(transport);
        let (sender, mut receiver) = typed.drive(QueueConfig::values()).spawn();

        let errors = onerror.clone();
        let watching = async move {
            let Some(handle) = handle.reconnect() else { return };
            let mut states = handle.states();
            while let Some(state) = states.next().await {
                call(&onstate, &describe(&state).into(), &state.is_connected().into());
                if let State::Reconnecting { cause, .. } | State::Failed { cause, .. } = state {
                    call(&errors, &cause.to_string().into(), &JsValue::UNDEFINED);
                }
            }
        };
        let receiving = async move {
            while let Some(said) = receiver.receive().await {
                match said {
                    Ok(Said { name, text }) => call(&onsaid, &name.into(), &text.into()),
                    // It concerns one message, or is the last one before the end.
                    Err(error) => call(&onerror, &error.to_string().into(), &JsValue::UNDEFINED),
                }
            }
        };
        Self { sender, tasks: [spawn(watching), spawn(receiving)] }
    }

    /// Sends a message. While there is no connection, it waits in a bounded queue.
    ///
    /// # Errors
    ///
    /// Throws if that queue is full, or if there will be no other connection.
    pub fn say(&self, name: String, text: String) -> Result<(), JsError> {
        Ok(self.sender.try_send(Said { name, text })?)
    }
}

impl Drop for Chat {
    fn drop(&mut self) {
        // Nobody calls back into a page that does not expect it. Dropping the last sender closes the connection.
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

fn describe(state: &State) -> String {
    match state {
        State::Connected => "Connected".to_owned(),
        State::Connecting { attempt, .. } => format!("Connecting, attempt {attempt}"),
        State::Reconnecting { after, .. } => format!("Reconnecting in {after:.1?}"),
        State::Failed { .. } => "Failed".to_owned(),
        _ => "Disconnected".to_owned(),
    }
}

/// Spawns a task that can be stopped.
fn spawn(task: impl Future<Output = ()> + 'static) -> AbortHandle {
    let (task, handle) = abortable(task);
    spawn_local(async {
        let _ = task.await;
    });
    handle
}

fn call(callback: &Function, first: &JsValue, second: &JsValue) {
    // An exception is the page's own affair; the browser's console shows it.
    let _ = callback.call2(&JsValue::UNDEFINED, first, second);
}
