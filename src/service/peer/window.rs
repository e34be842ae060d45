/// The credit of one stream, at its receiver: how many items the sender may still send. Pure.
///
/// ```text
///   size = open (the sender may still send) + held (in the queue) + taken (by the reader, not granted again yet)
/// ```
///
/// Credit is granted again when half of the size was taken: one frame for several items, and the sender does not stop
/// as long as the reader keeps up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    size: u32,
    open: u32,
    taken: u32,
}

impl Window {
    /// Creates a window that is wholly open.
    pub(super) const fn new(size: u32) -> Self {
        Self { size, open: size, taken: 0 }
    }

    /// Accounts for an item that came. Returns `false` if the sender had no credit for it.
    pub(super) const fn receive(&mut self) -> bool {
        let may = self.open > 0;
        self.open -= may as u32;
        may
    }

    /// Accounts for an item that the reader took. Returns whether credit is due.
    pub(super) const fn take(&mut self) -> bool {
        self.taken += 1;
        self.is_due()
    }

    pub(super) const fn is_due(&self) -> bool {
        self.taken > 0 && self.taken >= self.size.div_ceil(2)
    }

    /// Returns the credit that is granted with the next frame.
    pub(super) const fn grant(&mut self) -> u32 {
        let more = self.taken;
        self.taken = 0;
        self.open += more;
        more
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against a model: a sender that counts its credit, a queue, and a reader, in any order of steps.
        #[test]
        fn a_sender_that_keeps_to_its_credit_never_fills_more_than_the_window_and_never_starves(
            size in 1_u32..20,
            steps in prop::collection::vec(0_u8..3, 0..200),
        ) {
            let mut window = Window::new(size);
            let (mut credit, mut held) = (size, 0);
            for step in steps {
                match step {
                    0 if credit > 0 => {
                        credit -= 1;
                        held += 1;
                        prop_assert!(window.receive());
                    }
                    0 => prop_assert!(window.open == 0 || held + window.taken < size),
                    1 if held > 0 => {
                        held -= 1;
                        window.take();
                    }
                    2 if window.is_due() => credit += window.grant(),
                    _ => {}
                }
                prop_assert!(held <= size);
                prop_assert_eq!(credit, window.open);
                prop_assert_eq!(window.open + held + window.taken, size);
                // A reader that has read everything can go on: there is credit, or it is due.
                prop_assert!(held > 0 || credit > 0 || window.is_due());
            }
            while credit > 0 {
                credit -= 1;
                prop_assert!(window.receive());
            }
            prop_assert!(!window.receive());
        }
    }
}
