use std::collections::{HashMap, VecDeque};

use serde_json::{Map, Value, json};

use super::{
    batch::Batch,
    incoming_text::{IncomingText, read},
    message::{JsonRpcError, JsonRpcRequest, code},
    state::{Incoming, Last, Outgoing},
    text::{error_answer, invalid, rejection, request},
};
use crate::{
    Error, Message,
    service::peer::{
        frame::{CallOptions, Frame, Rejection},
        protocol::{Decoded, OutFrame, Protocol},
    },
};

/// A method whose answers are a stream: a subscription, in the convention that Ethereum's clients and jsonrpsee have.
#[derive(Clone, Debug)]
struct Subscription {
    subscribe: String,
    notification: String,
    unsubscribe: String,
}

/// [JSON-RPC 2.0](https://www.jsonrpc.org/specification) over a transport of [`Message`]s, in both roles at once.
///
/// Requests, notifications, error objects and batches are those of the specification. The specification has no streams,
/// deadlines or cancellation, so:
///
/// - A call with many answers is a [subscription](Self::subscription): its items are notifications. Without such a
///   setting, the call fails as not executed, and so does a call with further requests.
/// - There is no credit. Items of a subscription that come faster than they are read end it, once as many wait as
///   the [window](crate::service::peer::PeerBuilder::window) allows, with an error for which
///   [`is_full`](Error::is_full) is true.
/// - A cancelled call is forgotten at this end only, or told by [`cancel_method`](Self::cancel_method), as LSP has it.
///   A time limit is kept at this end only.
///
/// # Bounds
///
/// A batch of the other end has at most [`max_batch`](Self::max_batch) entries, and the batches that wait for their last
/// answer have at most 8 times as many together. An identifier has at most 256 bytes. A message is as large as the
/// transport's limits allow; one that consists of small objects takes about 100 times its size in memory.
#[derive(Debug)]
pub struct JsonRpc {
    subscriptions: Vec<Subscription>,
    cancel_method: Option<String>,
    max_batch: usize,
    /// The calls of the other end, by the number that they have here.
    incoming: HashMap<u64, Incoming>,
    /// The same, by the identifier that they have on the wire.
    by_id: HashMap<String, u64>,
    batches: HashMap<u64, Batch>,
    issued: u64,
    /// The calls of this end that are subscriptions.
    outgoing: HashMap<u64, Outgoing>,
    /// The subscriptions of this end, by the identifier that the other end gave them.
    subscribed: HashMap<String, u64>,
    /// How many entries the batches have that are not answered.
    entries: usize,
    /// The last message that left, in case the transport rejects it.
    last: Last,
}

/// The number of subscriptions that may wait for their identifier to be unsubscribed. Others are not unsubscribed.
const CANCELLED: usize = 1024;

/// The length of the longest identifier of a call or subscription of the other end. Identifiers are kept for as long as
/// the call is in flight, or as its rejection waits.
const IDENTIFIER: usize = 256;

/// The entries of batches that wait, in longest batches.
const WAITING_BATCHES: usize = 8;

impl Default for JsonRpc {
    fn default() -> Self {
        Self::new()
    }
}

impl JsonRpc {
    /// Creates the protocol, without subscriptions.
    #[must_use]
    pub fn new() -> Self {
        Self {
            subscriptions: Vec::new(),
            cancel_method: None,
            max_batch: 1024,
            incoming: HashMap::new(),
            by_id: HashMap::new(),
            batches: HashMap::new(),
            issued: 0,
            outgoing: HashMap::new(),
            subscribed: HashMap::new(),
            entries: 0,
            last: Last::Nothing,
        }
    }

    /// Makes `subscribe` a method whose answers are a stream. Its result is the identifier of the subscription;
    /// the items are notifications of the method `notification` with the parameters
    /// `{"subscription": identifier, "result": item}`, or `"error"` in place of `"result"` for the last one; a call of
    /// `unsubscribe` with the identifier ends it.
    #[must_use]
    pub fn subscription(
        mut self,
        subscribe: impl Into<String>,
        notification: impl Into<String>,
        unsubscribe: impl Into<String>,
    ) -> Self {
        let (subscribe, notification, unsubscribe) = (subscribe.into(), notification.into(), unsubscribe.into());
        self.subscriptions.push(Subscription { subscribe, notification, unsubscribe });
        self
    }

    /// Sets the notification that cancels a call, in both directions, with the parameters `{"id": ..}`: LSP's is
    /// `$/cancelRequest`. Without it, a cancellation is not told.
    #[must_use]
    pub fn cancel_method(mut self, method: impl Into<String>) -> Self {
        self.cancel_method = Some(method.into());
        self
    }

    /// Sets how many entries a batch of the other end may have. Defaults to 1024. A longer one is answered by one
    /// error.
    #[must_use]
    pub fn max_batch(mut self, entries: usize) -> Self {
        self.max_batch = entries;
        self
    }

    fn find(&self, name: impl Fn(&Subscription) -> &String, method: &str) -> Option<usize> {
        self.subscriptions.iter().position(|subscription| name(subscription) == method)
    }

    /// Answers a call of the other end, alone or as a part of its batch.
    fn answer(&mut self, id: u64, key: &str, value: Value) -> Option<String> {
        let call = self.incoming.remove(&id)?;
        self.by_id.remove(&call.id.to_string());
        let answer = json!({ "jsonrpc": "2.0", key: value, "id": call.id }).to_string();
        match call.batch {
            Some(batch) => self.answer_in(batch, id, call.id, &answer),
            None => {
                self.last = Last::Answer(id, call.id);
                Some(answer)
            }
        }
    }

    /// Adds an answer to a batch. Returns the whole batch with its last answer.
    fn answer_in(&mut self, batch: u64, call: u64, id: Value, answer: &str) -> Option<String> {
        let of = self.batches.get_mut(&batch)?;
        of.answer(id, answer);
        if !of.is_complete() {
            return None;
        }
        let mut of = self.batches.remove(&batch)?;
        self.entries -= of.entries();
        let text = of.take_text();
        self.last = Last::Batch(call, of);
        text
    }

    /// Takes one entry of a message. Returns an answer of the protocol's own, if it has one.
    fn entry(&mut self, entry: Value, batch: Option<u64>, frames: &mut VecDeque<Taken>) -> Option<String> {
        let Value::Object(mut object) = entry else { return Some(invalid("a request is an object")) };
        if object.get("jsonrpc").and_then(Value::as_str) != Some("2.0") {
            return Some(invalid("\"jsonrpc\" is not \"2.0\""));
        }
        if let Some(method) = object.remove("method") {
            let Value::String(method) = method else { return Some(invalid("\"method\" is not a string")) };
            let params = object.remove("params");
            if params.as_ref().is_some_and(|params| !params.is_array() && !params.is_object()) {
                return Some(invalid("\"params\" is neither an array nor an object"));
            }
            return match object.remove("id") {
                Some(id) => self.request(id, method, params, batch, frames),
                None => self.notification(method, params, frames),
            };
        }
        self.response(object, frames)
    }

    fn request(
        &mut self,
        id: Value,
        method: String,
        params: Option<Value>,
        batch: Option<u64>,
        frames: &mut VecDeque<Taken>,
    ) -> Option<String> {
        if !matches!(id, Value::String(_) | Value::Number(_) | Value::Null) {
            return Some(invalid("\"id\" is neither a string nor a number"));
        }
        let key = id.to_string();
        if key.len() > IDENTIFIER {
            return Some(invalid("\"id\" is longer than 256 bytes"));
        }
        if self.find(|subscription| &subscription.unsubscribe, &method).is_some() {
            let subscription = params.as_ref().and_then(|params| params.get(0).or_else(|| params.get("subscription")));
            let known = subscription
                .and_then(number)
                // Its identifier is given away with the answer to its call; an earlier guess does not count.
                .filter(|number| self.is_accepted(*number));
            if let Some(number) = known {
                self.incoming.remove(&number);
                frames.push_back(Frame::Cancel { id: number });
            }
            return Some(json!({ "jsonrpc": "2.0", "result": known.is_some(), "id": id }).to_string());
        }
        if self.by_id.contains_key(&key) {
            return Some(error_answer(code::INVALID_REQUEST, "the \"id\" is that of a call in flight", id));
        }
        self.issued += 1;
        let subscription = self.find(|subscription| &subscription.subscribe, &method);
        self.by_id.insert(key, self.issued);
        self.incoming.insert(self.issued, Incoming { id, batch, subscription, is_accepted: false });
        if let Some(batch) = batch.and_then(|batch| self.batches.get_mut(&batch)) {
            batch.wait();
        }
        // There is no credit on this wire: a subscription has all of it.
        let options = CallOptions { answers: if subscription.is_some() { u32::MAX } else { 0 }, ..Default::default() };
        frames.push_back(Frame::Call { id: self.issued, request: JsonRpcRequest { method, params }, options });
        None
    }

    fn notification(&mut self, method: String, params: Option<Value>, frames: &mut VecDeque<Taken>) -> Option<String> {
        if self.cancel_method.as_ref() == Some(&method) {
            let id = params.as_ref().and_then(|params| params.get("id")).map(ToString::to_string)?;
            let id = self.by_id.get(&id).copied()?;
            frames.push_back(Frame::Cancel { id });
            // Each request has an answer, a cancelled one as well.
            let cancelled = JsonRpcError::new(code::CANCELLED, "the call was cancelled");
            return self.answer(id, "error", serde_json::to_value(cancelled).unwrap_or_default());
        }
        if self.find(|subscription| &subscription.notification, &method).is_some()
            && let Some(Value::Object(mut params)) = params
        {
            let id = params.get("subscription").map(ToString::to_string)?;
            let call = self.subscribed.get(&id).copied()?;
            if let Some(answer) = params.remove("result") {
                frames.push_back(Frame::Item { id: call, answer });
            } else {
                self.unsubscribed(call);
                frames.push_back(match params.remove("error").map(serde_json::from_value) {
                    Some(Ok(failure)) => Frame::Failure { id: call, failure },
                    _ => Frame::Answer { id: call, answer: None },
                });
            }
            return None;
        }
        frames.push_back(Frame::Notification { request: JsonRpcRequest { method, params } });
        None
    }

    fn response(&mut self, mut object: Map<String, Value>, frames: &mut VecDeque<Taken>) -> Option<String> {
        // An answer without a number of ours answers nobody: an error about a message that could not be read, say.
        let id = object.get("id").and_then(Value::as_u64)?;
        if let Some(error) = object.remove("error") {
            self.unsubscribed(id);
            let failure = serde_json::from_value(error).unwrap_or_else(|_| {
                JsonRpcError::new(code::INTERNAL_ERROR, "the other end sent no valid error object")
            });
            frames.push_back(Frame::Failure { id, failure });
            return None;
        }
        let answer = object.remove("result").unwrap_or_default();
        match self.outgoing.get_mut(&id) {
            // It was cancelled before it had a name.
            Some(subscription) if subscription.is_cancelled => {
                let method = self.subscriptions.get(subscription.subscription)?.unsubscribe.clone();
                self.outgoing.remove(&id);
                return Some(request(Some(id), JsonRpcRequest::new(method, json!([answer]))));
            }
            // It has a name already, and keeps it.
            Some(Outgoing { id: Some(_), .. }) => {}
            Some(subscription) => {
                let name = answer.to_string();
                if name.len() > IDENTIFIER || self.subscribed.contains_key(&name) {
                    self.outgoing.remove(&id);
                    let message = "the other end named the subscription like another one, or in over 256 bytes";
                    let failure = JsonRpcError::new(code::INTERNAL_ERROR, message);
                    frames.push_back(Frame::Failure { id, failure });
                    return None;
                }
                subscription.id = Some(name.clone());
                self.subscribed.insert(name, id);
            }
            None => frames.push_back(Frame::Answer { id, answer: Some(answer) }),
        }
        None
    }

    /// Forgets a subscription of this end. Returns what it was.
    fn unsubscribed(&mut self, id: u64) -> Option<Outgoing> {
        let subscription = self.outgoing.remove(&id)?;
        if let Some(name) = &subscription.id {
            self.subscribed.remove(name);
        }
        Some(subscription)
    }
}

type Taken = Frame<JsonRpcRequest, Value, JsonRpcError>;

fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

impl Protocol for JsonRpc {
    type Request = JsonRpcRequest;
    type Response = Value;
    type InRequest = JsonRpcRequest;
    type InResponse = Value;
    type Failure = JsonRpcError;
    type Out = Message;
    type In = Message;

    const HAS_CREDIT: bool = false;

    fn encode(&mut self, frame: OutFrame<Self>) -> Result<Option<Message>, Error> {
        self.last = Last::Nothing;
        let text = match frame {
            Frame::Call { options, .. } if options.has_more => {
                return Err(Error::config("JSON-RPC has no calls with several requests").into_rejection());
            }
            Frame::Call { id, request: of, options } => {
                if options.answers > 0 {
                    let subscription = self.find(|subscription| &subscription.subscribe, &of.method);
                    let Some(subscription) = subscription else {
                        return Err(Error::config(format!(
                            "the method {:?} is no subscription (JsonRpc::subscription), and JSON-RPC has no other \
                             calls with several answers",
                            of.method
                        ))
                        .into_rejection());
                    };
                    self.outgoing.insert(id, Outgoing { subscription, id: None, is_cancelled: false });
                    self.last = Last::Subscription(id);
                }
                Some(request(Some(id), of))
            }
            Frame::Notification { request: of } => Some(request(None, of)),
            Frame::Cancel { id } => match self.unsubscribed(id) {
                Some(Outgoing { subscription, id: Some(name), .. }) => {
                    let method = self.subscriptions.get(subscription).map(|of| of.unsubscribe.clone());
                    let name: Value = serde_json::from_str(&name).unwrap_or_default();
                    // Its answer has a number that no call has, and is ignored.
                    method.map(|method| request(Some(id), JsonRpcRequest::new(method, json!([name]))))
                }
                Some(unnamed) => {
                    if self.outgoing.len() < CANCELLED {
                        self.outgoing.insert(id, Outgoing { is_cancelled: true, ..unnamed });
                    }
                    None
                }
                None => {
                    let method = self.cancel_method.clone();
                    method.map(|method| request(None, JsonRpcRequest::new(method, json!({ "id": id }))))
                }
            },
            Frame::Accepted { id } => match self.incoming.get_mut(&id) {
                Some(call) if call.subscription.is_some() => {
                    call.is_accepted = true;
                    self.by_id.remove(&call.id.to_string());
                    let answer = json!({ "jsonrpc": "2.0", "result": id, "id": call.id }).to_string();
                    match call.batch.take() {
                        Some(batch) => {
                            let wire = std::mem::take(&mut call.id);
                            self.answer_in(batch, id, wire, &answer)
                        }
                        None => Some(answer),
                    }
                }
                _ => None,
            },
            Frame::Item { id, answer } => self.item(id, "result", answer),
            Frame::Answer { id, answer } if self.is_accepted(id) => {
                let ended = self.item(id, "error", json!({ "code": 0, "message": "the subscription has ended" }));
                self.incoming.remove(&id);
                // A stream ends without an answer, in this protocol by a notification.
                drop(answer);
                ended
            }
            Frame::Answer { id, answer } => self.answer(id, "result", answer.unwrap_or_default()),
            Frame::Failure { id, failure } => self.fail(id, failure),
            Frame::Rejected { id, reason } => self.fail(id, rejection(reason)),
            // None of them has a place in this protocol: there is no credit, and there are no streams of requests.
            Frame::Request { .. }
            | Frame::RequestsEnd { .. }
            | Frame::RequestCredit { .. }
            | Frame::AnswerCredit { .. } => None,
        };
        Ok(text.map(Message::text))
    }

    fn take_back(&mut self) {
        match std::mem::take(&mut self.last) {
            Last::Nothing => {}
            Last::Subscription(id) => {
                self.outgoing.remove(&id);
            }
            Last::Answer(number, id) => self.restore(number, id, None),
            Last::Batch(number, mut batch) => {
                // The other calls have errors in place of their answers, and the last one is rejected.
                let Some(id) = batch.reject(&rejection(Rejection::Unsendable)) else { return };
                self.issued += 1;
                self.restore(number, id, Some(self.issued));
                self.entries += batch.entries();
                self.batches.insert(self.issued, batch);
            }
        }
    }

    fn connection_lost(&mut self) {
        self.entries = 0;
        self.last = Last::Nothing;
        self.incoming.clear();
        self.by_id.clear();
        self.batches.clear();
        self.outgoing.clear();
        self.subscribed.clear();
    }

    fn decode(&mut self, message: Message, decoded: &mut Decoded<Self>) -> Result<(), Error> {
        if !message.is_data() {
            return Ok(());
        }
        let answer = match read(message.as_bytes(), self.max_batch) {
            Ok(IncomingText::Entry(entry)) => self.entry(entry, None, &mut decoded.frames),
            Ok(IncomingText::Batch(entries)) if entries.is_empty() => Some(invalid("a batch has at least one entry")),
            Ok(IncomingText::Batch(entries)) => self.batch(entries, decoded),
            Ok(IncomingText::LongBatch) => Some(invalid(&format!("a batch has at most {} entries", self.max_batch))),
            Err(error) => {
                Some(error_answer(code::PARSE_ERROR, &format!("the message is no JSON: {error}"), Value::Null))
            }
        };
        if let Some(answer) = answer {
            decoded.reply(Message::text(answer));
        }
        Ok(())
    }
}

impl JsonRpc {
    /// Takes a batch. Returns its answer if nothing of it has to wait.
    fn batch(&mut self, entries: Vec<Value>, decoded: &mut Decoded<Self>) -> Option<String> {
        // A batch is answered at once, so the first answers wait for the last one.
        if self.entries + entries.len() > self.max_batch.saturating_mul(WAITING_BATCHES) {
            let message = "the batches whose calls are not answered have too many entries together";
            return Some(error_answer(code::BUSY, message, Value::Null));
        }
        self.issued += 1;
        let batch = self.issued;
        self.entries += entries.len();
        self.batches.insert(batch, Batch::new(entries.len()));
        for entry in entries {
            let answer = self.entry(entry, Some(batch), &mut decoded.frames);
            if let (Some(answer), Some(of)) = (answer, self.batches.get_mut(&batch)) {
                of.add(&answer);
            }
        }
        let of = self.batches.get_mut(&batch)?;
        of.all_taken();
        if !of.is_complete() {
            return None;
        }
        let mut of = self.batches.remove(&batch)?;
        self.entries -= of.entries();
        of.take_text()
    }

    /// Puts a call back that had an answer.
    fn restore(&mut self, number: u64, id: Value, batch: Option<u64>) {
        self.by_id.insert(id.to_string(), number);
        self.incoming.insert(number, Incoming { id, batch, subscription: None, is_accepted: false });
    }

    fn is_accepted(&self, id: u64) -> bool {
        self.incoming.get(&id).is_some_and(|call| call.is_accepted)
    }

    fn item(&self, id: u64, key: &str, value: Value) -> Option<String> {
        let of = self.incoming.get(&id)?.subscription?;
        let method = self.subscriptions.get(of)?.notification.clone();
        Some(request(None, JsonRpcRequest::new(method, json!({ "subscription": id, key: value }))))
    }

    fn fail(&mut self, id: u64, failure: JsonRpcError) -> Option<String> {
        let failure = serde_json::to_value(failure).unwrap_or_default();
        if self.is_accepted(id) {
            let ended = self.item(id, "error", failure);
            self.incoming.remove(&id);
            return ended;
        }
        self.answer(id, "error", failure)
    }
}
