//! Where one run of Terraform's ends and the next one begins, in a process that does several. Nothing says so: a refresh, or the plan of a
//! delete, while nothing is being changed and after something was, is of the next one.

use std::sync::{Mutex, PoisonError};

/// The changes of a run.
#[derive(Debug, Default)]
pub struct Changes {
    so_far: Mutex<SoFar>,
}

#[derive(Debug, Default)]
struct SoFar {
    under_way: usize,
    were_made: bool,
}

/// A change that is under way.
#[derive(Debug)]
pub struct Change<'a>(&'a Changes);

impl Changes {
    fn with<T>(&self, use_them: impl FnOnce(&mut SoFar) -> T) -> T {
        use_them(&mut self.so_far.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A change begins, and ends when this is dropped.
    pub fn begin(&self) -> Change<'_> {
        self.with(|so_far| {
            so_far.under_way += 1;
            so_far.were_made = true;
        });
        Change(self)
    }

    /// Whether what begins now, a refresh or the plan of a delete, is the beginning of another run.
    pub fn are_over(&self) -> bool {
        self.with(|so_far| so_far.under_way == 0 && std::mem::take(&mut so_far.were_made))
    }
}

impl Drop for Change<'_> {
    fn drop(&mut self) {
        self.0.with(|so_far| so_far.under_way -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_begins_once_after_the_changes_of_the_one_before() {
        let changes = Changes::default();
        assert!(!changes.are_over(), "the first one");
        let one = changes.begin();
        // A deposed object is planned while others are changed.
        assert!(!changes.are_over());
        let other = changes.begin();
        drop(one);
        assert!(!changes.are_over());
        drop(other);
        assert!(changes.are_over());
        assert!(!changes.are_over(), "the same one");
    }
}
