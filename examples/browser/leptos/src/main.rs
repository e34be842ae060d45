//! A chat in Leptos: signals that a `WebSocketContext` feeds with typed values.

use std::rc::Rc;

use futures_util::{
    StreamExt,
    future::{abortable, join},
};
use gloo_timers::future::TimeoutFuture;
use leptos::{ev::SubmitEvent, prelude::*, task::spawn_local};
use serde::{Deserialize, Serialize};
use tower_transport::{Error, layer::reconnect::State, stack::WebSocketContext};

/// A message of the chat, in both directions.
#[derive(Clone, Serialize, Deserialize)]
struct Said {
    name: String,
    text: String,
}

/// The signals that the component shows.
#[derive(Clone, Copy)]
struct View {
    state: RwSignal<String>,
    is_connected: RwSignal<bool>,
    error: RwSignal<String>,
    log: RwSignal<Vec<Said>>,
}

impl View {
    fn show_state(self, state: &State) {
        self.is_connected.set(state.is_connected());
        match state {
            State::Reconnecting { cause, .. } | State::Failed { cause, .. } => self.show_error(cause),
            State::Connected => self.error.set(String::new()),
            _ => {}
        }
        self.state.set(match state {
            State::Connected => "Connected".to_owned(),
            State::Connecting { attempt, .. } => format!("Connecting, attempt {attempt}"),
            State::Reconnecting { after, .. } => format!("Reconnecting in {after:.1?}"),
            State::Failed { .. } => "Failed".to_owned(),
            _ => "Disconnected".to_owned(),
        });
    }

    fn show_error(self, error: &Error) {
        self.error.set(error.to_string());
    }
}

/// Connects, and feeds the signals until the end.
async fn run(context: Rc<WebSocketContext>, view: View) {
    // `connect` returns the error of the first attempt. A connection that is lost later is made again automatically.
    while let Err(error) = context.connect().await {
        view.show_error(&error);
        view.state.set("Waiting to try again".to_owned());
        TimeoutFuture::new(2_000).await;
    }
    let states = context.handle().and_then(|handle| Some(handle.reconnect()?.states()));
    let watching = async {
        let Some(mut states) = states else { return };
        while let Some(state) = states.next().await {
            view.show_state(&state);
        }
    };
    let receiving = async {
        loop {
            match context.receive_message::<Said>().await {
                Ok(said) => view.log.update(|log| log.push(said)),
                // The end, whose reason the state has told.
                Err(error) if error.is_closed() && !error.is_rejection() => break,
                // It concerns one message: the next one can be received.
                Err(error) => view.show_error(&error),
            }
        }
    };
    join(watching, receiving).await;
}

#[component]
fn Chat(name: String, url: String) -> impl IntoView {
    let view = View {
        state: RwSignal::new("Connecting".to_owned()),
        is_connected: RwSignal::new(false),
        error: RwSignal::new(String::new()),
        log: RwSignal::new(Vec::new()),
    };
    let text = RwSignal::new(String::new());

    // The context belongs to this component. When the component is unmounted, the task is stopped and the context is
    // dropped, which closes the connection after everything accepted is sent.
    let context = Rc::new(WebSocketContext::new_with_url(&url));
    let (running, task) = abortable(run(context.clone(), view));
    spawn_local(async {
        let _ = running.await;
    });
    on_cleanup(move || task.abort());
    let context = StoredValue::new_local(context);

    let say = move |event: SubmitEvent| {
        event.prevent_default();
        let (context, name) = (context.get_value(), name.clone());
        spawn_local(async move {
            // It waits for a place in the queue, which is bounded.
            match context.send_message(&Said { name, text: text.get_untracked() }).await {
                Ok(()) => text.set(String::new()),
                Err(error) => view.show_error(&error),
            }
        });
    };

    view! {
        <p id="state" role="status" data-connected=move || view.is_connected.get().to_string()>
            {move || view.state.get()}
        </p>
        <p id="error" role="alert">{move || view.error.get()}</p>
        <ul id="log">
            {move || view.log.get().into_iter().map(|Said { name, text }| view! { <li>{name} ": " {text}</li> }).collect_view()}
        </ul>
        <form on:submit=say>
            <input aria-label="Message" autocomplete="off" bind:value=text />
            <button>"Say"</button>
        </form>
    }
}

#[component]
fn App() -> impl IntoView {
    let is_open = RwSignal::new(true);
    let name = format!("guest-{}", (js_random() * 1000.0) as u32);
    view! {
        <h1>"Chat"</h1>
        <button id="toggle" on:click=move |_| is_open.update(|is_open| *is_open = !*is_open)>
            {move || if is_open.get() { "Leave" } else { "Enter" }}
        </button>
        <main>
            <Show when=move || is_open.get()>
                <Chat name=name.clone() url=url() />
            </Show>
        </main>
    }
}

fn url() -> String {
    let location = window().location();
    let scheme = if location.protocol().is_ok_and(|protocol| protocol == "https:") { "wss" } else { "ws" };
    format!("{scheme}://{}/chat", location.host().unwrap_or_default())
}

fn js_random() -> f64 {
    leptos::web_sys::js_sys::Math::random()
}

fn main() {
    mount_to_body(App);
}
