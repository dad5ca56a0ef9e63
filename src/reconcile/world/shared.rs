//! The world as all calls share it, and its time. The clock of the tests stands still while anything can go on, and jumps to the next moment
//! that something waits for: hours pass in milliseconds, in the same order every time.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::etcd::World;

/// The world.
#[derive(Clone)]
pub struct Shared(Arc<Mutex<World>>);

impl Shared {
    pub fn new(world: World) -> Self {
        Self(Arc::new(Mutex::new(world)))
    }

    /// Not to be kept while anything is awaited.
    pub fn lock(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// So long as a script or a question takes: some milliseconds, now and then a second.
    pub async fn moment(&self) {
        let time = self.lock().chance.duration(2, 9);
        tokio::time::sleep(time).await;
    }

    /// What comes about by itself, until something happened that must never be.
    pub async fn nature(&self) {
        loop {
            let time = self.lock().chance.duration(2, 13);
            tokio::time::sleep(time).await;
            let mut world = self.lock();
            if let Err(violation) = world.settle() {
                world.violated(violation);
            }
            if world.chance.once_in(2) {
                world.write();
            }
            if world.violation.is_some() {
                return;
            }
        }
    }
}

/// A time of the story.
pub fn at(step: usize) -> Duration {
    Duration::from_millis(20 * step as u64)
}
