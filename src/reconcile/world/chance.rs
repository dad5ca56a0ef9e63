//! Chance that a seed decides: the same story goes the same way every time.

use std::time::Duration;

/// Numbers from a seed (SplitMix64).
#[derive(Debug)]
pub struct Chance(pub u64);

impl Chance {
    /// A number below `below`, which is not 0.
    pub fn below(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % (below as u64)).unwrap_or_default()
    }

    /// Milliseconds, from two to the power of `shortest` up to two to the power of `longest`; short ones as often as long ones.
    pub fn duration(&mut self, shortest: usize, longest: usize) -> Duration {
        let power = shortest + self.below(longest - shortest);
        let most = 1usize << power;
        Duration::from_millis((most + self.below(most)) as u64)
    }

    /// One time in so many.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }
}
