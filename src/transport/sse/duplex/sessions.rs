use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use super::{session::Session, token::Token};
use crate::{Limits, transport::place::Place};

/// The sessions of a server, by their tokens. A session is kept alive by its two ends, the handler's transport and the
/// response's body; this is only an index.
#[derive(Debug)]
pub(super) struct Sessions {
    by_token: Mutex<HashMap<Token, Weak<Session>>>,
    most: usize,
}

impl Sessions {
    pub(super) fn new(most: usize) -> Self {
        Self { by_token: Mutex::default(), most }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Token, Weak<Session>>> {
        self.by_token.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a new session, or returns `None` if there are too many.
    pub(super) fn open(self: &Arc<Self>, limits: Limits, place: Option<Place>) -> Option<Arc<Session>> {
        let mut by_token = self.lock();
        if by_token.len() >= self.most {
            return None;
        }
        let token = Token::random();
        let session = Arc::new(Session::new(token, limits, self.clone(), place));
        by_token.insert(token, Arc::downgrade(&session));
        Some(session)
    }

    pub(super) fn find(&self, token: Token) -> Option<Arc<Session>> {
        self.lock().get(&token)?.upgrade()
    }

    /// Releases the place of a session that is dropped, or whose client has not finished reading in time.
    pub(super) fn close(&self, token: Token) {
        self.lock().remove(&token);
    }

    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_free_again_when_both_ends_of_the_session_are_gone() {
        let sessions = Arc::new(Sessions::new(1));
        let session = sessions.open(Limits::default(), None).unwrap();
        assert!(sessions.open(Limits::default(), None).is_none());
        let other_end = sessions.find(session.token()).unwrap();
        drop(session);
        assert_eq!(sessions.len(), 1);
        drop(other_end);
        assert_eq!(sessions.len(), 0);
        assert!(sessions.open(Limits::default(), None).is_some());
    }

    #[test]
    fn a_session_is_found_by_its_own_token_alone() {
        let sessions = Arc::new(Sessions::new(2));
        let (one, other) =
            (sessions.open(Limits::default(), None).unwrap(), sessions.open(Limits::default(), None).unwrap());
        assert!(Arc::ptr_eq(&sessions.find(one.token()).unwrap(), &one));
        assert!(Arc::ptr_eq(&sessions.find(other.token()).unwrap(), &other));
        assert!(sessions.find(Token::random()).is_none());
    }
}
