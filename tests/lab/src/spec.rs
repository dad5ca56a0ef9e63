//! What a lab consists of: sites, hosts, and how they are reached. Pure data, kept as JSON beside a lab that is up.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Result, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::Lab;

/// A private network behind a NAT router.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Site {
    /// A short name, in capitals by custom.
    pub name: String,
    /// The router's private address: the hosts' gateway.
    pub gateway: Ipv4Addr,
    /// The prefix length of the private range.
    pub prefix_length: u8,
    /// The router's own public address.
    pub public: Ipv4Addr,
}

impl Site {
    /// A site `name` whose router has the private address `gateway` in a range of `prefix_length` bits and the address `public`.
    pub fn new(name: &str, gateway: impl Into<Ipv4Addr>, prefix_length: u8, public: impl Into<Ipv4Addr>) -> Self {
        Self {
            name: name.into(),
            gateway: gateway.into(),
            prefix_length,
            public: public.into(),
        }
    }
}

/// How a host is reached from outside its site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Public {
    /// Not at all.
    None,
    /// By an address of its own that the router translates one to one.
    OneToOne(Ipv4Addr),
    /// By ports of the router's public address: pairs of public and private port.
    Forwarded(Vec<(u16, u16)>),
}

/// What runs as process 1 of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Init {
    /// A full systemd.
    Systemd,
    /// sshd and nothing else: a host without a service manager.
    SshOnly,
}

/// What happens inside a site to packets for one of the site's own public addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Hairpin {
    /// They arrive, and seem to come from the router.
    #[default]
    Router,
    /// They arrive, and seem to come from the sender's public address, as in many clouds.
    Public,
    /// They don't arrive, as behind many routers of homes and offices.
    Dropped,
}

/// One host.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HostSpec {
    /// Its name, also its hostname.
    pub name: String,
    /// The name of its site.
    pub site: String,
    /// Its private address.
    pub private: Ipv4Addr,
    /// How it is reached from outside.
    pub public: Public,
    /// Its process 1.
    pub init: Init,
    /// The address that it goes out by, where that is not the one it is reached at.
    pub egress: Option<Ipv4Addr>,
}

impl HostSpec {
    /// A host with systemd that can't be reached from outside its site.
    pub fn new(name: &str, site: &str, private: impl Into<Ipv4Addr>) -> Self {
        Self {
            name: name.into(),
            site: site.into(),
            private: private.into(),
            public: Public::None,
            init: Init::Systemd,
            egress: None,
        }
    }

    /// Gives it a public address of its own.
    pub fn one_to_one(mut self, public: impl Into<Ipv4Addr>) -> Self {
        self.public = Public::OneToOne(public.into());
        self
    }

    /// Forwards `(public, private)` ports of the router's address to it.
    pub fn forwarded(mut self, ports: &[(u16, u16)]) -> Self {
        self.public = Public::Forwarded(ports.to_vec());
        self
    }

    /// Runs sshd alone, without systemd.
    pub fn ssh_only(mut self) -> Self {
        self.init = Init::SshOnly;
        self
    }
}

/// A whole lab.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Builder {
    pub(crate) prefix: String,
    pub(crate) sites: Vec<Site>,
    pub(crate) hosts: Vec<HostSpec>,
    pub(crate) hairpin: Hairpin,
    /// Whether everything has IPv6 addresses too.
    #[serde(default)]
    pub(crate) dual_stack: bool,
}

/// The addresses that a host has beside its IPv4 ones. There is no NAT between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv6 {
    /// Unique to its site only: every site uses fd00::/64.
    pub private: Ipv6Addr,
    /// Reached from everywhere.
    pub public: Ipv6Addr,
}

impl Builder {
    /// Starts with nothing. `prefix` tells labs apart that are up at the same time: small letters, digits and dashes.
    pub fn new(prefix: &str) -> Self {
        Self {
            prefix: prefix.into(),
            sites: Vec::new(),
            hosts: Vec::new(),
            hairpin: Hairpin::default(),
            dual_stack: false,
        }
    }

    /// The lab that most tests use, and the quickstart too. Sites A and B both use 10.0.0.0/24, and `a1` and `b1` even have the
    /// same private address; site C has one public address, of which three ports lead to `c1`.
    pub fn standard(prefix: &str) -> Self {
        Self::new(prefix)
            .site(Site::new("A", [10, 0, 0, 1], 24, [203, 0, 113, 10]))
            .site(Site::new("B", [10, 0, 0, 1], 24, [203, 0, 113, 20]))
            .site(Site::new("C", [192, 168, 7, 1], 24, [203, 0, 113, 30]))
            .host(HostSpec::new("a1", "A", [10, 0, 0, 11]).one_to_one([203, 0, 113, 11]))
            .host(HostSpec::new("a2", "A", [10, 0, 0, 12]).one_to_one([203, 0, 113, 12]))
            .host(HostSpec::new("b1", "B", [10, 0, 0, 11]).one_to_one([203, 0, 113, 21]))
            .host(HostSpec::new("b2", "B", [10, 0, 0, 12]).one_to_one([203, 0, 113, 22]))
            .host(HostSpec::new("c1", "C", [192, 168, 7, 31]).forwarded(&[
                (22, 22),
                (2379, 2379),
                (2380, 2380),
                (6443, 6443),
            ]))
    }

    /// Adds a site.
    pub fn site(mut self, site: Site) -> Self {
        self.sites.push(site);
        self
    }

    /// Adds a host.
    pub fn host(mut self, host: HostSpec) -> Self {
        self.hosts.push(host);
        self
    }

    /// Keeps only these hosts (the sites stay): a smaller lab is up sooner.
    pub fn only(mut self, names: &[&str]) -> Self {
        self.hosts.retain(|host| names.contains(&host.name.as_str()));
        self
    }

    /// Gives IPv6 addresses to everything, beside those of IPv4.
    pub fn dual_stack(mut self) -> Self {
        self.dual_stack = true;
        self
    }

    /// The site's range of public addresses, a /64: 2001:db8:N::, N being the site's place among the sites.
    pub(crate) fn ipv6_range(&self, site: &Site) -> Option<Ipv6Addr> {
        let place = self.sites.iter().position(|other| other.name == site.name)?;
        let number = u16::try_from(place + 1).ok()?;
        self.dual_stack
            .then(|| Ipv6Addr::new(0x2001, 0xdb8, number, 0, 0, 0, 0, 0))
    }

    /// The host's IPv6 addresses. They end as its private IPv4 address does, so hosts of two sites may have the same private one.
    pub(crate) fn ipv6(&self, host: &HostSpec) -> Option<Ipv6> {
        let range = self.ipv6_range(self.site_named(&host.site).ok()?)?;
        let number = u128::from(host.private.octets()[3]);
        let local = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0);
        Some(Ipv6 {
            private: Ipv6Addr::from(u128::from(local) | number),
            public: Ipv6Addr::from(u128::from(range) | number),
        })
    }

    /// Chooses how a site's own public addresses behave inside it.
    pub fn hairpin(mut self, hairpin: Hairpin) -> Self {
        self.hairpin = hairpin;
        self
    }

    /// Brings the lab up and waits until every host answers.
    ///
    /// # Errors
    /// When this process isn't root, a program is missing, the lab is up already, or a host doesn't come up in 30 seconds.
    pub fn up(self) -> Result<Lab> {
        self.check()?;
        Lab::bring_up(self)
    }

    /// The name of the host's site.
    ///
    /// # Errors
    /// When there is no such host.
    pub fn site_of(&self, host: &str) -> Result<String> {
        Ok(self.host_named(host)?.site.clone())
    }

    pub(crate) fn host_named(&self, name: &str) -> Result<&HostSpec> {
        match self.hosts.iter().find(|host| host.name == name) {
            Some(host) => Ok(host),
            None => bail!("the lab {} has no host {name}", self.prefix),
        }
    }

    pub(crate) fn site_named(&self, name: &str) -> Result<&Site> {
        match self.sites.iter().find(|site| site.name == name) {
            Some(site) => Ok(site),
            None => bail!("the lab {} has no site {name}", self.prefix),
        }
    }

    /// The public address by which `host` is reached, if any.
    pub(crate) fn public_address(&self, host: &HostSpec) -> Option<Ipv4Addr> {
        match host.public {
            Public::None => None,
            Public::OneToOne(address) => Some(address),
            Public::Forwarded(_) => self
                .sites
                .iter()
                .find(|site| site.name == host.site)
                .map(|site| site.public),
        }
    }

    /// Every public IPv4 address that packets of `site` may come from or go to.
    pub(crate) fn ipv4_of_site(&self, site: &Site) -> Vec<Ipv4Addr> {
        let mut all = vec![site.public];
        for host in self.hosts.iter().filter(|host| host.site == site.name) {
            if let Public::OneToOne(address) = host.public {
                all.push(address);
            }
            all.extend(host.egress);
        }
        all.sort_unstable();
        all.dedup();
        all
    }

    /// The same with those of IPv6.
    pub(crate) fn addresses_of_site(&self, site: &Site) -> Vec<IpAddr> {
        let hosts = self.hosts.iter().filter(|host| host.site == site.name);
        let six = hosts.filter_map(|host| Some(IpAddr::V6(self.ipv6(host)?.public)));
        self.ipv4_of_site(site).into_iter().map(IpAddr::V4).chain(six).collect()
    }

    fn check(&self) -> Result<()> {
        let plain = |text: &str| {
            !text.is_empty()
                && text
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        };
        ensure!(
            plain(&self.prefix) && self.prefix.len() <= 24,
            "prefix {:?}: up to 24 small letters, digits and dashes",
            self.prefix
        );
        for host in &self.hosts {
            // 15 bytes is the longest name of a network interface, and l- stands before the host's name.
            ensure!(
                plain(&host.name) && host.name.len() <= 12,
                "host {:?}: up to 12 small letters, digits and dashes",
                host.name
            );
            self.site_named(&host.site)?;
            ensure!(
                self.hosts.iter().filter(|other| other.name == host.name).count() == 1,
                "two hosts named {}",
                host.name
            );
        }
        for site in &self.sites {
            ensure!(
                plain(&site.name.to_lowercase()) && site.name.len() <= 10,
                "site {:?}: up to 10 letters, digits and dashes",
                site.name
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_standard_lab_is_well_formed_and_overlaps() {
        let lab = Builder::standard("t");
        lab.check().unwrap();
        assert_eq!(
            lab.host_named("a1").unwrap().private,
            lab.host_named("b1").unwrap().private
        );
        let c1 = lab.host_named("c1").unwrap();
        assert_eq!(lab.public_address(c1), Some(Ipv4Addr::new(203, 0, 113, 30)));
    }

    #[test]
    fn a_bad_lab_is_refused_in_words() {
        let twice = Builder::standard("t").host(HostSpec::new("a1", "A", [10, 0, 0, 13]));
        assert_eq!(twice.check().unwrap_err().to_string(), "two hosts named a1");
        let nowhere = Builder::standard("t").host(HostSpec::new("d1", "D", [10, 0, 0, 13]));
        assert_eq!(nowhere.check().unwrap_err().to_string(), "the lab t has no site D");
    }
}
