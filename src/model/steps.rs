//! Counts the steps of pure work, for tests that hold it to the length of what is worked on: what somebody else can make
//! longer must not make work grow with its square.

#[cfg(test)]
pub(crate) use counted::{assert_grows_with, step};

/// One comparison or look-up. Only tests count them.
#[cfg(not(test))]
#[inline(always)]
pub(crate) fn step() {}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod counted {
    use std::cell::Cell;

    thread_local! {
        static STEPS: Cell<u64> = const { Cell::new(0) };
    }

    pub(crate) fn step() {
        STEPS.set(STEPS.get() + 1);
    }

    /// Holds that work on a list twice as long takes twice the steps, and the little more that sorting and searching take.
    /// `work` is given the length of the list and returns what is to be counted, so that making the list is not.
    pub(crate) fn assert_grows_with<W: FnOnce()>(list: &str, length: usize, work: impl Fn(usize) -> W) {
        let steps = |length| {
            let work = work(length);
            STEPS.set(0);
            work();
            STEPS.get()
        };
        let (some, twice) = (steps(length), steps(2 * length));
        assert!(some >= length as u64 / 2, "{list}: only {some} steps are counted");
        assert!(twice * 10 < some * 24, "{list}: {some} steps for {length}, and {twice} for twice as many");
    }

    #[test]
    fn a_square_is_noticed() {
        let pairs = |length: usize| move || (0..length * length).for_each(|_| step());
        assert!(std::panic::catch_unwind(|| assert_grows_with("pairs", 100, pairs)).is_err());
        assert_grows_with("each", 100, |length| move || (0..length).for_each(|_| step()));
    }
}
