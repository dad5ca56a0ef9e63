//! What a writer did, from the times and numbers of its acknowledged writes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use anyhow::{Result, ensure};

/// A write that a member acknowledged.
#[derive(Clone, Debug)]
pub struct Acknowledged {
    /// Its number.
    pub number: u64,
    /// The host of the member that acknowledged it.
    pub host: String,
    /// When, from the writer's start.
    pub at: Duration,
}

/// The longest time without an acknowledged write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pause {
    /// When it began, from the writer's start.
    pub from: Duration,
    /// How long it was.
    pub length: Duration,
}

/// What was written through one member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Through {
    /// How many writes it acknowledged.
    pub acknowledged: usize,
    /// The longest time between two of them.
    pub longest_pause: Pause,
}

/// What a writer did.
#[derive(Debug)]
pub struct Written {
    /// How many writes were acknowledged.
    pub acknowledged: usize,
    /// Acknowledged and not read back, by the host of the member that does not have them.
    pub lost: BTreeMap<String, Vec<u64>>,
    /// The longest time in which no member acknowledged a write: the cluster's own pause. The time to the writer's end counts.
    pub longest_pause: Pause,
    /// The same for each member alone, by its host; up to its last acknowledged write.
    pub through: BTreeMap<String, Through>,
    /// Members through which nothing could be read back, and why.
    pub unread: BTreeMap<String, String>,
    /// From the writer's start to its end.
    pub lasted: Duration,
}

/// Puts it together.
pub fn report(
    mut writes: Vec<Acknowledged>,
    lasted: Duration,
    read: BTreeMap<String, Result<BTreeSet<u64>>>,
) -> Result<Written> {
    writes.sort_by_key(|one| one.at);
    let numbers: BTreeSet<u64> = writes.iter().map(|one| one.number).collect();
    let (mut lost, mut unread) = (BTreeMap::new(), BTreeMap::new());
    let members = read.len();
    for (host, read) in read {
        match read {
            Ok(there) => {
                let missing: Vec<u64> = numbers.difference(&there).copied().collect();
                if !missing.is_empty() {
                    lost.insert(host, missing);
                }
            }
            Err(error) => {
                unread.insert(host, format!("{error:#}"));
            }
        }
    }
    ensure!(unread.len() < members, "nothing could be read back: {unread:?}");
    let times: Vec<Duration> = writes.iter().map(|one| one.at).chain([lasted]).collect();
    let mut by_host: BTreeMap<String, Vec<Duration>> = BTreeMap::new();
    for one in &writes {
        by_host.entry(one.host.clone()).or_default().push(one.at);
    }
    let through = by_host.into_iter().map(|(host, times)| {
        let through = Through {
            acknowledged: times.len(),
            longest_pause: longest(&times),
        };
        (host, through)
    });
    Ok(Written {
        acknowledged: writes.len(),
        lost,
        longest_pause: longest(&times),
        through: through.collect(),
        unread,
        lasted,
    })
}

fn longest(times: &[Duration]) -> Pause {
    let pauses = times.windows(2).map(|pair| Pause {
        from: pair[0],
        length: pair[1].saturating_sub(pair[0]),
    });
    pauses.max_by_key(|pause| pause.length).unwrap_or_default()
}

impl Written {
    /// An error when an acknowledged write was not read back, or nothing was written, or a member could not be read from.
    pub fn nothing_lost(&self) -> Result<()> {
        ensure!(self.acknowledged > 0, "nothing was written");
        ensure!(self.lost.is_empty(), "acknowledged, and not there: {:?}", self.lost);
        ensure!(self.unread.is_empty(), "not read back: {:?}", self.unread);
        Ok(())
    }
}

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lost: BTreeSet<&u64> = self.lost.values().flatten().collect();
        write!(
            f,
            "{} writes acknowledged in {:.1?}, {} lost; longest pause {:?} ms (at {:.1?})",
            self.acknowledged,
            self.lasted,
            lost.len(),
            self.longest_pause.length.as_millis(),
            self.longest_pause.from
        )?;
        for (host, through) in &self.through {
            let pause = through.longest_pause.length.as_millis();
            write!(f, "; through {host}: {} writes, {pause} ms", through.acknowledged)?;
        }
        Ok(())
    }
}

#[test]
fn pauses_and_losses_are_seen() {
    let at = |number, host: &str, millis| Acknowledged {
        number,
        host: host.into(),
        at: Duration::from_millis(millis),
    };
    let writes = vec![at(1, "a", 10), at(2, "b", 20), at(3, "a", 300), at(4, "b", 310)];
    let read = BTreeMap::from([
        ("a".to_owned(), Ok(BTreeSet::from([1, 2, 3, 4]))),
        ("b".to_owned(), Ok(BTreeSet::from([1, 2, 4]))),
    ]);
    let written = report(writes, Duration::from_millis(400), read).expect("read back");
    assert_eq!(written.longest_pause.length, Duration::from_millis(280));
    assert_eq!(written.through["b"].longest_pause.length, Duration::from_millis(290));
    assert_eq!(written.lost, BTreeMap::from([("b".to_owned(), vec![3])]));
    assert!(written.nothing_lost().is_err());
}
