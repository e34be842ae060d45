//! A chat in Yew: a reducer that a typed transport feeds.

use std::rc::Rc;

use futures_util::{
    StreamExt,
    future::{AbortHandle, abortable, join},
};
use serde::{Deserialize, Serialize};
use tower::ServiceBuilder;
use tower_transport::{
    QueueConfig, Sender, ServiceBuilderExt, TransportExt, codec::JsonCodec, layer::reconnect::State,
    stack::OptimizedTransport, transport::websocket::WebSocketConnector,
};
use wasm_bindgen_futures::spawn_local;
use web_sys::HtmlInputElement;
use yew::prelude::*;

/// A message of the chat, in both directions.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct Said {
    name: String,
    text: String,
}

/// The state that the component shows.
#[derive(Clone, Default)]
struct View {
    state: String,
    is_connected: bool,
    error: String,
    log: Vec<Said>,
}

enum Change {
    State(State),
    Error(String),
    Said(Said),
}

impl Reducible for View {
    type Action = Change;

    fn reduce(self: Rc<Self>, change: Change) -> Rc<Self> {
        let mut view = Rc::unwrap_or_clone(self);
        match change {
            Change::State(state) => {
                view.is_connected = state.is_connected();
                match &state {
                    State::Reconnecting { cause, .. } | State::Failed { cause, .. } => view.error = cause.to_string(),
                    State::Connected => view.error.clear(),
                    _ => {}
                }
                view.state = match state {
                    State::Connected => "Connected".to_owned(),
                    State::Connecting { attempt, .. } => format!("Connecting, attempt {attempt}"),
                    State::Reconnecting { after, .. } => format!("Reconnecting in {after:.1?}"),
                    State::Failed { .. } => "Failed".to_owned(),
                    _ => "Disconnected".to_owned(),
                };
            }
            Change::Error(error) => view.error = error,
            Change::Said(said) => view.log.push(said),
        }
        view.into()
    }
}

/// A connection to the chat. Dropping it closes the connection after everything accepted is sent.
struct Connection {
    sender: Sender<Said>,
    task: AbortHandle,
}

impl Connection {
    /// Connects, and dispatches what happens. The stack reconnects automatically and resumes its session, so that a cut
    /// loses no message.
    fn open(url: &str, view: UseReducerDispatcher<View>) -> Self {
        let transport = OptimizedTransport::builder().connect_lazily(WebSocketConnector::new(), url);
        let handle = transport.handle();
        let typed = ServiceBuilder::new().codec(JsonCodec::<Said>::new()).service(transport);
        let (sender, mut receiver) = typed.drive(QueueConfig::values()).spawn();
        let changes = view.clone();
        let watching = async move {
            let Some(handle) = handle.reconnect() else { return };
            let mut states = handle.states();
            while let Some(state) = states.next().await {
                changes.dispatch(Change::State(state));
            }
        };
        let receiving = async move {
            while let Some(said) = receiver.receive().await {
                view.dispatch(match said {
                    Ok(said) => Change::Said(said),
                    // It concerns one message, or is the last one before the end.
                    Err(error) => Change::Error(error.to_string()),
                });
            }
        };
        let (running, task) = abortable(join(watching, receiving));
        spawn_local(async {
            let _ = running.await;
        });
        Self { sender, task }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // A component that is gone is not updated. Dropping the last sender closes the connection.
        self.task.abort();
    }
}

#[derive(PartialEq, Properties)]
struct ChatProps {
    name: String,
    url: String,
}

#[component]
fn Chat(props: &ChatProps) -> Html {
    let view = use_reducer(View::default);
    let connection = use_mut_ref(|| None::<Connection>);
    let input = use_node_ref();

    // Connects when the component is mounted, again when the URL changes, and closes when it is unmounted.
    use_effect_with(props.url.clone(), {
        let (connection, view) = (connection.clone(), view.dispatcher());
        move |url| {
            *connection.borrow_mut() = Some(Connection::open(url, view));
            move || drop(connection.take())
        }
    });

    let say = {
        let (input, name, view) = (input.clone(), props.name.clone(), view.dispatcher());
        Callback::from(move |event: SubmitEvent| {
            event.prevent_default();
            let (Some(input), Some(connection)) = (input.cast::<HtmlInputElement>(), &*connection.borrow()) else {
                return;
            };
            // While there is no connection, the message waits in a bounded queue.
            match connection.sender.try_send(Said { name: name.clone(), text: input.value() }) {
                Ok(()) => input.set_value(""),
                Err(error) => view.dispatch(Change::Error(error.to_string())),
            }
        })
    };

    html! {
        <>
            <p id="state" role="status" data-connected={view.is_connected.to_string()}>{ &view.state }</p>
            <p id="error" role="alert">{ &view.error }</p>
            <ul id="log">
                { for view.log.iter().map(|Said { name, text }| html! { <li>{ name }{ ": " }{ text }</li> }) }
            </ul>
            <form onsubmit={say}>
                <input ref={input} aria-label="Message" autocomplete="off" />
                <button>{ "Say" }</button>
            </form>
        </>
    }
}

#[component]
fn App() -> Html {
    let is_open = use_state(|| true);
    let name = use_memo((), |()| format!("guest-{}", (js_sys::Math::random() * 1000.0) as u32));
    let toggle = {
        let is_open = is_open.clone();
        Callback::from(move |_| is_open.set(!*is_open))
    };
    html! {
        <>
            <h1>{ "Chat" }</h1>
            <button id="toggle" onclick={toggle}>{ if *is_open { "Leave" } else { "Enter" } }</button>
            <main>
                if *is_open {
                    <Chat name={(*name).clone()} url={url()} />
                }
            </main>
        </>
    }
}

fn url() -> String {
    let location = web_sys::window().map(|window| window.location());
    let secure =
        location.as_ref().is_some_and(|location| location.protocol().is_ok_and(|protocol| protocol == "https:"));
    let host = location.and_then(|location| location.host().ok()).unwrap_or_default();
    format!("{}://{host}/chat", if secure { "wss" } else { "ws" })
}

fn main() {
    yew::Renderer::<App>::new().render();
}
