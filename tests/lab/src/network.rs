//! Namespaces, cables, routers and their NAT.
//!
//! `inet` is the made-up internet: one router with a cable to each site's router and to the controller. What comes in by a cable
//! goes into the TUN device (table 100), and what comes out of it again by the main table.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::process::Command;

use anyhow::{Context, Result};

use crate::command::{in_namespace, must};
use crate::hold::DEVICE;
use crate::spec::{Builder, Hairpin, HostSpec, Public, Site};
use crate::wan::{CONTROLLER, CONTROLLER_ADDRESS, CONTROLLER_IPV6};

const INTERNET: &str = "inet";
const INTERNET_ADDRESS: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);

/// The name of the namespace of `what` (a host, a router, the controller) in the lab `prefix`. The dots keep the names of labs
/// whose prefixes begin alike apart.
pub(crate) fn namespace(prefix: &str, what: &str) -> String {
    format!("etcdlab.{prefix}.{what}")
}

pub(crate) fn internet(prefix: &str) -> String {
    namespace(prefix, INTERNET)
}

/// Runs `ip` in the namespace, a line a command.
fn ip(namespace: &str, lines: &str) -> Result<()> {
    must(Command::new("ip").args(["-n", namespace, "-batch", "-"]), lines).map(drop)
}

/// The same for IPv6.
fn ip6(namespace: &str, lines: &str) -> Result<()> {
    must(Command::new("ip").args(["-6", "-n", namespace, "-batch", "-"]), lines).map(drop)
}

fn router_of(site: &Site) -> String {
    format!("r-{}", site.name.to_lowercase())
}

impl Builder {
    fn namespaces(&self) -> Vec<String> {
        let mut names = vec![INTERNET.to_owned(), CONTROLLER.to_owned()];
        names.extend(self.sites.iter().map(router_of));
        names.extend(self.hosts.iter().map(|host| host.name.clone()));
        names.iter().map(|name| namespace(&self.prefix, name)).collect()
    }

    pub(crate) fn build_network(&self) -> Result<()> {
        let add: String = self
            .namespaces()
            .iter()
            .fold(String::new(), |text, name| text + "netns add " + name + "\n");
        must(Command::new("ip").args(["-batch", "-"]), &add)?;
        for name in self.namespaces() {
            ip(&name, "link set lo up\n")?;
        }
        let internet = internet(&self.prefix);
        sysctl(
            &internet,
            &[
                "net.ipv4.ip_forward=1",
                "net.ipv4.conf.all.rp_filter=0",
                "net.ipv4.conf.default.rp_filter=0",
            ],
        )?;
        ip(
            &internet,
            &format!(
                "tuntap add {DEVICE} mode tun\nlink set {DEVICE} txqueuelen 5000 up\naddress add {INTERNET_ADDRESS}/32 dev lo\n\
                 route add default dev {DEVICE} table 100\n"
            ),
        )?;
        self.cable(CONTROLLER, "eth0", CONTROLLER_ADDRESS)?;
        for site in &self.sites {
            self.build_site(site)?;
        }
        self.hosts.iter().try_for_each(|host| self.build_host(host))?;
        if self.dual_stack {
            self.build_ipv6()?;
        }
        Ok(())
    }

    /// IPv6 on the same cables. Neighbours know each other by link-local addresses: fe80::1 is the end that is nearer to the internet.
    fn build_ipv6(&self) -> Result<()> {
        let internet = internet(&self.prefix);
        sysctl(&internet, &["net.ipv6.conf.all.forwarding=1"])?;
        ip6(&internet, &format!("route add default dev {DEVICE} table 100\n"))?;
        let cable = |to: &str, device: &str, range: &str| -> Result<()> {
            ip6(
                &internet,
                &format!(
                    "address add fe80::1/64 dev w-{to} nodad\nrule add iif w-{to} lookup 100 prio 100\n\
                     route add {range} via fe80::2 dev w-{to}\n"
                ),
            )?;
            let outwards =
                format!("address add fe80::2/64 dev {device} nodad\nroute add default via fe80::1 dev {device}\n");
            ip6(&namespace(&self.prefix, to), &outwards)
        };
        cable(CONTROLLER, "eth0", &format!("{CONTROLLER_IPV6}/128"))?;
        ip6(
            &namespace(&self.prefix, CONTROLLER),
            &format!("address add {CONTROLLER_IPV6}/128 dev eth0 nodad\n"),
        )?;
        for site in &self.sites {
            let Some(range) = self.ipv6_range(site) else { continue };
            let router = router_of(site);
            let space = namespace(&self.prefix, &router);
            sysctl(&space, &["net.ipv6.conf.all.forwarding=1"])?;
            cable(&router, "wan", &format!("{range}/64"))?;
            ip6(
                &space,
                &format!("address add fe80::1/64 dev lan nodad\nroute add {range}/64 dev lan\n"),
            )?;
        }
        for host in &self.hosts {
            let Some(addresses) = self.ipv6(host) else { continue };
            let (private, public) = (addresses.private, addresses.public);
            ip6(
                &namespace(&self.prefix, &host.name),
                &format!(
                    "address add {private}/64 dev eth0 nodad\naddress add {public}/64 dev eth0 nodad\n\
                     route add default via fe80::1 dev eth0\n"
                ),
            )?;
        }
        Ok(())
    }

    /// A cable from the internet to `to`, which gets the public address.
    fn cable(&self, to: &str, device: &str, address: Ipv4Addr) -> Result<()> {
        let other = namespace(&self.prefix, to);
        ip(
            &internet(&self.prefix),
            &format!(
                "link add w-{to} type veth peer name {device} netns {other}\nlink set w-{to} up\nroute add {address}/32 dev w-{to}\n\
                 rule add iif w-{to} lookup 100 prio 100\n"
            ),
        )?;
        ip(
            &other,
            &format!(
                "address add {address}/32 dev {device}\nlink set {device} up\n\
                 route add default via {INTERNET_ADDRESS} dev {device} onlink\n"
            ),
        )
    }

    fn build_site(&self, site: &Site) -> Result<()> {
        let router = router_of(site);
        let space = namespace(&self.prefix, &router);
        sysctl(&space, &["net.ipv4.ip_forward=1", "net.ipv4.conf.all.rp_filter=0"])?;
        // Where br_netfilter is loaded, frames that are only bridged on the LAN would go through NAT too, and hairpin fail.
        sysctl(&space, &["net.bridge.bridge-nf-call-iptables=0"]).ok();
        self.cable(&router, "wan", site.public)?;
        let (gateway, length) = (site.gateway, site.prefix_length);
        ip(
            &space,
            &format!(
                "link add lan type bridge stp_state 0 forward_delay 0\naddress add {gateway}/{length} dev lan\nlink set lan up\n"
            ),
        )?;
        self.apply_addresses(site)
    }

    fn build_host(&self, host: &HostSpec) -> Result<()> {
        let site = self.site_named(&host.site)?;
        let router = namespace(&self.prefix, &router_of(site));
        let space = namespace(&self.prefix, &host.name);
        let name = &host.name;
        ip(
            &router,
            &format!("link add l-{name} type veth peer name eth0 netns {space}\nlink set l-{name} master lan up\n"),
        )?;
        let (private, length, gateway) = (host.private, site.prefix_length, site.gateway);
        ip(
            &space,
            &format!("address add {private}/{length} dev eth0\nlink set eth0 up\nroute add default via {gateway}\n"),
        )
    }

    /// Gives the host's interface another address in place of the one that it has.
    pub(crate) fn set_private(&self, host: &HostSpec, address: Ipv4Addr) -> Result<()> {
        let site = self.site_named(&host.site)?;
        let (before, length, gateway) = (host.private, site.prefix_length, site.gateway);
        ip(
            &namespace(&self.prefix, &host.name),
            &format!(
                "address del {before}/{length} dev eth0\naddress add {address}/{length} dev eth0\n\
                 route replace default via {gateway}\n"
            ),
        )
    }

    /// Makes the site's NAT and the internet's routes what this specification says; also after a change of it.
    pub(crate) fn apply_addresses(&self, site: &Site) -> Result<()> {
        let router = router_of(site);
        must(
            in_namespace(&namespace(&self.prefix, &router), "nft").args(["-f", "-"]),
            &self.nat_rules(site),
        )
        .with_context(|| format!("the NAT rules of site {}", site.name))?;
        let mut routes = format!(
            "route flush dev w-{router}\nroute add {}/32 dev w-{router}\n",
            site.public
        );
        for address in self
            .ipv4_of_site(site)
            .iter()
            .filter(|address| **address != site.public)
        {
            let _ = writeln!(
                routes,
                "route add {address}/32 via {} dev w-{router} onlink",
                site.public
            );
        }
        ip(&internet(&self.prefix), &routes)
    }

    /// The ruleset of a site's router, for `nft -f`.
    fn nat_rules(&self, site: &Site) -> String {
        let hosts: Vec<_> = self.hosts.iter().filter(|host| host.site == site.name).collect();
        let mut incoming = String::new();
        let mut hairpin = String::new();
        let mut outgoing = String::new();
        let mut dropped = String::new();
        for host in hosts {
            let private = host.private;
            match &host.public {
                Public::None => {}
                Public::OneToOne(public) => {
                    let _ = writeln!(incoming, "ip daddr {public} dnat to {private};");
                    let _ = writeln!(
                        hairpin,
                        "iifname lan oifname lan ct status dnat ip saddr {private} snat to {public};"
                    );
                    let _ = writeln!(dropped, "iifname lan ip daddr {public} drop;");
                }
                Public::Forwarded(ports) => {
                    for (from, to) in ports {
                        let _ = writeln!(
                            incoming,
                            "ip daddr {} tcp dport {from} dnat to {private}:{to};",
                            site.public
                        );
                    }
                }
            }
            let leaves_by = match (host.egress, &host.public) {
                (None, Public::OneToOne(address)) => Some(*address),
                (egress, _) => egress,
            };
            if let Some(address) = leaves_by {
                let _ = writeln!(outgoing, "oifname wan ip saddr {private} snat to {address};");
            }
        }
        let (not_from_inside, hairpin, dropped) = match self.hairpin {
            Hairpin::Router => ("", String::new(), String::new()),
            Hairpin::Public => ("", hairpin, String::new()),
            Hairpin::Dropped => ("iifname lan return;\n", String::new(), dropped),
        };
        // Whatever way hairpin goes, its answer has to come back through the router: hence the masquerade.
        format!(
            "table ip lab\ndelete table ip lab\ntable ip lab {{\n\
             chain incoming {{ type nat hook prerouting priority dstnat;\n{not_from_inside}{incoming}}}\n\
             chain outgoing {{ type nat hook postrouting priority srcnat;\n{hairpin}iifname lan oifname lan ct status dnat masquerade;\n\
             {outgoing}oifname wan snat to {};\n}}\n\
             chain through {{ type filter hook forward priority filter;\n{dropped}\
             iifname wan ct state established,related accept;\niifname wan ct status dnat accept;\niifname wan drop;\n}}\n}}\n",
            site.public
        )
    }

    /// Makes the router of `to`'s site drop what comes from `from` for a TCP port of `to`. Answers to what `to` dials get through.
    pub(crate) fn close_port(&self, from: &HostSpec, to: &HostSpec, port: u16) -> Result<()> {
        self.drop_at(from, to, &format!("tcp dport {port}"))
    }

    fn drop_at(&self, from: &HostSpec, to: &HostSpec, what: &str) -> Result<()> {
        let router = namespace(&self.prefix, &router_of(self.site_named(&to.site)?));
        let outgoing = match (from.egress, &from.public) {
            (Some(address), _) => address,
            (None, Public::OneToOne(address)) => *address,
            (None, _) => self.site_named(&from.site)?.public,
        };
        let rules = format!(
            "table ip closed {{ chain through {{ type filter hook forward priority filter - 1;\n\
             ip saddr {outgoing} ip daddr {} {what} drop;\n}}\n}}\n",
            to.private
        );
        must(in_namespace(&router, "nft").args(["-f", "-"]), &rules).map(drop)
    }

    /// Makes the router of the site forget the connections that there are: their packets are dropped without a word, those of new ones
    /// pass.
    pub(crate) fn forget_connections(&self, site: &Site) -> Result<()> {
        let router = namespace(&self.prefix, &router_of(site));
        // Another mark each time: connections that were new after the last one are forgotten too.
        let mark = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)?
            .subsec_nanos()
            | 1;
        let rules = format!(
            "table ip forgotten\ndelete table ip forgotten\ntable ip forgotten {{\n\
             chain through {{ type filter hook forward priority filter - 2;\nct state new ct mark set {mark};\nct mark != {mark} drop;\n}}\n}}\n"
        );
        must(in_namespace(&router, "nft").args(["-f", "-"]), &rules).map(drop)
    }

    /// Makes the router of `to`'s site drop, in silence, whatever comes from `from` in packets of more than so many bytes.
    pub(crate) fn drop_larger(&self, from: &HostSpec, to: &HostSpec, bytes: u16) -> Result<()> {
        self.drop_at(from, to, &format!("meta length > {bytes}"))
    }

    /// Opens everything again that was closed at the router of the host's site.
    pub(crate) fn open_ports(&self, host: &HostSpec) -> Result<()> {
        let router = namespace(&self.prefix, &router_of(self.site_named(&host.site)?));
        let rules = "table ip closed\ndelete table ip closed\n";
        must(in_namespace(&router, "nft").args(["-f", "-"]), rules).map(drop)
    }

    /// Pulls the host's cable out of the router, or puts it in again.
    pub(crate) fn set_cable(&self, host: &HostSpec, plugged: bool) -> Result<()> {
        let router = namespace(&self.prefix, &router_of(self.site_named(&host.site)?));
        ip(
            &router,
            &format!("link set l-{} {}\n", host.name, if plugged { "up" } else { "down" }),
        )
    }
}

fn sysctl(namespace: &str, settings: &[&str]) -> Result<()> {
    must(in_namespace(namespace, "sysctl").arg("-qw").args(settings), "").map(drop)
}

/// Removes every namespace of the lab `prefix`, cables first: a namespace lives on while anything refers to it.
pub(crate) fn remove_network(prefix: &str) -> Result<()> {
    let start = namespace(prefix, "");
    let entries = std::fs::read_dir("/run/netns").into_iter().flatten().flatten();
    let names: Vec<String> = entries
        .filter_map(|e| e.file_name().into_string().ok())
        .filter(|name| name.starts_with(&start))
        .collect();
    for name in &names {
        let links = must(Command::new("ip").args(["-n", name, "-brief", "link"]), "").unwrap_or_default();
        for link in links
            .lines()
            .filter_map(|line| line.split([' ', '@']).next())
            .filter(|link| *link != "lo")
        {
            // Its other end may have taken it along already.
            ip(name, &format!("link del {link}\n")).ok();
        }
    }
    names
        .iter()
        .try_for_each(|name| must(Command::new("ip").args(["netns", "del", name]), "").map(drop))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(lab: &Builder, site: &str) -> String {
        lab.nat_rules(lab.site_named(site).unwrap())
    }

    #[test]
    fn a_host_with_its_own_address_goes_out_by_it_unless_told_otherwise() {
        let mut lab = Builder::standard("t");
        assert!(rules(&lab, "A").contains("oifname wan ip saddr 10.0.0.11 snat to 203.0.113.11;"));
        lab.hosts[0].egress = Some(Ipv4Addr::new(203, 0, 113, 19));
        let changed = rules(&lab, "A");
        assert!(changed.contains("oifname wan ip saddr 10.0.0.11 snat to 203.0.113.19;"));
        assert!(changed.contains("ip daddr 203.0.113.11 dnat to 10.0.0.11;"));
    }

    #[test]
    fn forwarded_ports_lead_to_the_host() {
        let lab = Builder::standard("t");
        assert!(rules(&lab, "C").contains("ip daddr 203.0.113.30 tcp dport 2380 dnat to 192.168.7.31:2380;"));
    }

    #[test]
    fn hairpin_is_chosen() {
        let lab = Builder::standard("t");
        assert!(!rules(&lab, "A").contains("drop;\niifname wan ct state"));
        let dropped = lab.clone().hairpin(Hairpin::Dropped);
        assert!(rules(&dropped, "A").contains("iifname lan ip daddr 203.0.113.12 drop;"));
        let public = lab.hairpin(Hairpin::Public);
        assert!(
            rules(&public, "A")
                .contains("iifname lan oifname lan ct status dnat ip saddr 10.0.0.12 snat to 203.0.113.12;")
        );
    }
}
