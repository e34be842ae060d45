use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use crate::{CloseFrame, transport::webtransport::session::WeakSession};

/// The sessions of a server, so that they can be closed with it.
#[derive(Default)]
pub(in crate::transport::webtransport) struct Registry(Mutex<HashMap<usize, WeakSession>>);

impl Registry {
    pub(in crate::transport::webtransport) fn add(&self, id: usize, session: WeakSession) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(id, session);
    }

    pub(in crate::transport::webtransport) fn remove(&self, id: usize) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }

    pub(super) fn close(&self, frame: &CloseFrame) {
        // Not under the lock: a session that is dropped here takes it.
        let sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect::<Vec<_>>();
        for session in sessions.iter().filter_map(WeakSession::upgrade) {
            session.close(frame.clone());
        }
    }
}
