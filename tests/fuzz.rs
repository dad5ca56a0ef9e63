//! The fuzz targets, for a moment each: all seeds, and the same changes to them in every run. A long run: `cargo +nightly fuzz run`, see
//! CONTRIBUTING.md.

#[path = "../fuzz/targets.rs"]
mod targets;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long one input may take, on a busy machine too.
const PATIENCE: Duration = Duration::from_secs(20);
/// How many changed inputs each target gets. `FUZZ_RUNS` takes their place.
const RUNS: usize = 5000;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(name)
}

fn names(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    paths
}

/// Numbers that are the same in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 11).unwrap_or_default() % end.max(1)
    }

    /// A few changes: bytes of another value, cut out, doubled, or from another seed.
    fn change(&mut self, input: &mut Vec<u8>, other: &[u8]) {
        const BYTES: &[u8] = b"\0\xff\x7f\x80\xc0\xd4\xdd\xdf\n\r\t =:,-#&*!|>'\"[]{}<@09aZ";
        for _ in 0..=self.below(6) {
            let at = self.below(input.len() + 1);
            let end = (at + 1 + self.below(64)).min(input.len());
            match self.below(6) {
                0 if at < input.len() => input[at] = BYTES[self.below(BYTES.len())],
                1 if at < input.len() => input[at] ^= 1 << self.below(8),
                2 => input.insert(at, BYTES[self.below(BYTES.len())]),
                3 => drop(input.drain(at.min(end)..end)),
                4 => {
                    let piece = input[at.min(end)..end].repeat(1 + self.below(20));
                    input.splice(at..at, piece);
                }
                _ => {
                    let from = self.below(other.len());
                    let to = (from + self.below(256)).min(other.len());
                    input.splice(at..at, other[from..to].iter().copied());
                }
            }
        }
    }
}

fn ran(name: &str, target: targets::Target, input: &[u8]) {
    let begun = Instant::now();
    if std::panic::catch_unwind(|| target(input)).is_err() {
        panic!("the target {name} panics at {:?}", String::from_utf8_lossy(input));
    }
    let took = begun.elapsed();
    assert!(
        took < PATIENCE,
        "{name} takes {took:?} for {:?}",
        String::from_utf8_lossy(input)
    );
}

#[test]
fn no_target_panics_or_takes_long() {
    let runs = std::env::var("FUZZ_RUNS")
        .ok()
        .and_then(|runs| runs.parse().ok())
        .unwrap_or(RUNS);
    for (name, target) in targets::TARGETS {
        let paths = names(&folder("seeds").join(name));
        let seeds: Vec<Vec<u8>> = paths.iter().map(|path| std::fs::read(path).unwrap()).collect();
        assert!(!seeds.is_empty(), "{name} has no seeds");
        ran(name, *target, &[]);
        seeds.iter().for_each(|seed| ran(name, *target, seed));
        let mut numbers = Numbers(0x5eed);
        for _ in 0..runs {
            let mut input = seeds[numbers.below(seeds.len())].clone();
            let other = numbers.below(seeds.len());
            numbers.change(&mut input, &seeds[other]);
            ran(name, *target, &input);
        }
    }
}

#[test]
fn every_target_is_one_of_cargo_fuzz() {
    let known: BTreeSet<String> = targets::TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let stem = |path: &PathBuf| path.file_stem().unwrap().to_string_lossy().into_owned();
    assert_eq!(
        names(&folder("fuzz_targets")).iter().map(stem).collect::<BTreeSet<_>>(),
        known
    );
    assert_eq!(names(&folder("seeds")).iter().map(stem).collect::<BTreeSet<_>>(), known);
    let manifest = std::fs::read_to_string(folder("Cargo.toml")).unwrap();
    for name in &known {
        assert!(manifest.contains(&format!("\nname = \"{name}\"\n")), "{name}");
        let target = std::fs::read_to_string(folder("fuzz_targets").join(format!("{name}.rs"))).unwrap();
        assert!(target.contains(&format!("targets::{name}(data)")), "{name}");
    }
}
