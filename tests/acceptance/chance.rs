//! Chance that can be had again: a seed says all that follows.

use std::time::{SystemTime, UNIX_EPOCH};

/// A source of numbers.
pub struct Chance {
    seed: u64,
    number: u64,
}

impl Chance {
    /// With the seed in `ACCEPTANCE_SEED`, which repeats an earlier run; without one another seed each time.
    pub fn new() -> Self {
        let given = std::env::var("ACCEPTANCE_SEED").ok().and_then(|seed| seed.parse().ok());
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(1, |now| now.as_secs());
        let seed = given.unwrap_or(now);
        Self { seed, number: seed }
    }

    /// What repeats it.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// From 0 up to, and not including, 1.
    pub fn fraction(&mut self) -> f64 {
        // A linear congruential generator (Knuth's MMIX); its upper bits are good enough here.
        self.number = self
            .number
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.number >> 40) as f64 / f64::from(1 << 24)
    }

    /// One of these.
    pub fn one_of<T: Copy>(&mut self, all: &[T]) -> Option<T> {
        let place = (self.fraction() * all.len() as f64) as usize;
        all.get(place).copied()
    }
}
