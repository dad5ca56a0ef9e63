//! The state of the links between sites, and the rules file that makes the packet holder follow it.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::hold::Pair;
use crate::spec::Builder;

/// The end of a link that is not a site: where Terraform runs.
pub const CONTROLLER: &str = "ctl";
pub(crate) const CONTROLLER_ADDRESS: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 100);
pub(crate) const CONTROLLER_IPV6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 0x100);

/// What a link does to packets, in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Delay {
    /// Time one way, in milliseconds.
    pub ms: f64,
    /// How much more or less than `ms` a packet may take, in milliseconds.
    pub jitter_ms: f64,
    /// How many of a hundred packets are lost.
    pub loss_percent: f64,
}

impl Delay {
    /// Nothing gets through.
    pub const CUT: Self = Self {
        ms: 0.0,
        jitter_ms: 0.0,
        loss_percent: 100.0,
    };

    /// A steady delay one way, in milliseconds.
    pub fn ms(ms: f64) -> Self {
        Self { ms, ..Self::default() }
    }
}

/// The links that are not at zero, by `FROM>TO`, with a number that grows with every change.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct LinkStates {
    generation: u64,
    links: BTreeMap<String, Delay>,
    /// What was before a cut, for `heal`.
    before_cut: BTreeMap<String, Delay>,
}

impl LinkStates {
    pub(crate) fn load(folder: &Path) -> Result<Self> {
        let text = fs::read_to_string(folder.join("links.json")).context("reading the state of the links")?;
        serde_json::from_str(&text).context("reading the state of the links")
    }

    pub(crate) fn set(&mut self, from: &str, to: &str, delay: Delay) {
        self.links.insert(key(from, to), delay);
        self.before_cut.remove(&key(from, to));
    }

    pub(crate) fn cut(&mut self, from: &str, to: &str) {
        let before = self.links.insert(key(from, to), Delay::CUT).unwrap_or_default();
        // Cut twice, it still heals to what it was before the first time.
        self.before_cut.entry(key(from, to)).or_insert(before);
    }

    pub(crate) fn heal(&mut self, from: &str, to: &str) {
        let before = self.before_cut.remove(&key(from, to)).unwrap_or_default();
        self.links.insert(key(from, to), before);
    }

    pub(crate) fn describe(&self) -> String {
        let mut text = String::new();
        for (link, delay) in self.links.iter().filter(|(_, delay)| **delay != Delay::default()) {
            let _ = writeln!(
                text,
                "{link}: {} ms, jitter {} ms, loss {}%",
                delay.ms, delay.jitter_ms, delay.loss_percent
            );
        }
        text
    }

    /// Writes state and rules, and waits until the packet holder follows them.
    pub(crate) fn store(&mut self, folder: &Path, spec: &Builder) -> Result<()> {
        self.generation += 1;
        let write = |name: &str, text: &str| -> Result<()> {
            let new = folder.join(format!("{name}.new"));
            fs::write(&new, text)
                .and_then(|()| fs::rename(&new, folder.join(name)))
                .with_context(|| format!("writing {name}"))
        };
        write("links.json", &serde_json::to_string(self)?)?;
        write("rules", &self.rules(spec))?;
        let until = Instant::now() + Duration::from_secs(5);
        while fs::read_to_string(folder.join("rules.seen")).unwrap_or_default() != self.generation.to_string() {
            if Instant::now() > until {
                bail!(
                    "the process that holds the packets doesn't follow; see wan.log in {}",
                    folder.display()
                );
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// One line for every directed pair of addresses: source, destination, ms, jitter, loss.
    fn rules(&self, spec: &Builder) -> String {
        let addresses = |end: &str| match spec.sites.iter().find(|site| site.name == end) {
            Some(site) => spec.addresses_of_site(site),
            None if spec.dual_stack => vec![CONTROLLER_ADDRESS.into(), CONTROLLER_IPV6.into()],
            None => vec![IpAddr::V4(CONTROLLER_ADDRESS)],
        };
        let mut text = format!("generation {}\n", self.generation);
        for (link, delay) in &self.links {
            let Some((from, to)) = link.split_once('>') else {
                continue;
            };
            for source in addresses(from) {
                for destination in addresses(to) {
                    let _ = writeln!(
                        text,
                        "{source} {destination} {} {} {}",
                        delay.ms, delay.jitter_ms, delay.loss_percent
                    );
                }
            }
        }
        text
    }
}

fn key(from: &str, to: &str) -> String {
    format!("{from}>{to}")
}

/// Reads what [`LinkStates::rules`] wrote; none when it isn't that.
pub(crate) fn parse_rules(text: &str) -> Option<(u64, HashMap<Pair, Delay>)> {
    let mut lines = text.lines();
    let generation = lines.next()?.strip_prefix("generation ")?.parse().ok()?;
    let mut delays = HashMap::new();
    for line in lines {
        let mut fields = line.split(' ');
        let pair = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        let mut number = || fields.next()?.parse::<f64>().ok();
        delays.insert(
            pair,
            Delay {
                ms: number()?,
                jitter_ms: number()?,
                loss_percent: number()?,
            },
        );
    }
    Some((generation, delays))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_survive_the_file() {
        let spec = Builder::standard("t");
        let mut links = LinkStates::default();
        links.set(
            "A",
            "C",
            Delay {
                ms: 25.0,
                jitter_ms: 2.5,
                loss_percent: 1.0,
            },
        );
        links.cut(CONTROLLER, "C");
        let (generation, rules) = parse_rules(&links.rules(&spec)).unwrap();
        assert_eq!(generation, 0);
        // A has a router and two hosts with addresses of their own; C and the controller have one address each.
        assert_eq!(rules.len(), 3 + 1);
        let c = IpAddr::from([203, 0, 113, 30]);
        assert_eq!(rules[&(IpAddr::from([203, 0, 113, 11]), c)].jitter_ms, 2.5);
        assert_eq!(rules[&(CONTROLLER_ADDRESS.into(), c)], Delay::CUT);
        let (_, both) = parse_rules(&links.rules(&spec.dual_stack())).unwrap();
        let (a1, c1): (Ipv6Addr, Ipv6Addr) = ("2001:db8:1::b".parse().unwrap(), "2001:db8:3::1f".parse().unwrap());
        assert_eq!(both[&(a1.into(), c1.into())].jitter_ms, 2.5);
        assert_eq!(both[&(CONTROLLER_IPV6.into(), c1.into())], Delay::CUT);
    }

    #[test]
    fn a_healed_link_is_what_it_was_before_the_cut() {
        let mut links = LinkStates::default();
        links.set("A", "B", Delay::ms(25.0));
        links.cut("A", "B");
        links.cut("A", "B");
        assert_eq!(links.links["A>B"], Delay::CUT);
        links.heal("A", "B");
        assert_eq!(links.links["A>B"], Delay::ms(25.0));
    }
}
