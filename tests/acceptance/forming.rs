//! `terraform apply` forms one cluster across networks, and `terraform destroy` leaves the servers as they were.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Context, Result, ensure};
use etcd_lab::{Builder, Delay, Hairpin, HostSpec, Lab, PASSWORD, Site};

use crate::configuration::{Configuration, quoted};
use crate::fingerprint::Fingerprint;
use crate::outside::{dialled, etcd_configuration, eventually, heard_from, leftovers, one_cluster, status};
use crate::prefix;
use crate::terraform::{OPENTOFU, Terraform};

/// The address by which `viewer` is to dial `other`: private inside a site, public across.
fn dials(lab: &Lab, viewer: &str, other: &str) -> Result<IpAddr> {
    let private = lab.private_address(other)?;
    if lab.spec().site_of(viewer)? == lab.spec().site_of(other)? {
        return Ok(private.into());
    }
    Ok(lab.public_address(other)?.unwrap_or(private).into())
}

/// Checks who talks to whom by which address, in both directions, and what each server's file says.
pub fn every_view_is_its_own(lab: &Lab, hosts: &[&str]) -> Result<()> {
    // A peer is heard from at the address by which it would be dialled: in this lab hosts go out as they are reached.
    let by = |viewer: &str, other: &str| dials(lab, viewer, other);
    views_are(lab, hosts, by, by)
}

/// The same where `dials` says by which address a host dials another, and `hears` from which one it hears it.
fn views_are(
    lab: &Lab,
    hosts: &[&str],
    dials: impl Fn(&str, &str) -> Result<IpAddr>,
    hears: impl Fn(&str, &str) -> Result<IpAddr>,
) -> Result<()> {
    for viewer in hosts {
        let others = hosts.iter().filter(|other| *other != viewer);
        let to: BTreeSet<IpAddr> = others
            .clone()
            .map(|other| dials(viewer, other))
            .collect::<Result<_>>()?;
        let from: BTreeSet<IpAddr> = others.map(|other| hears(viewer, other)).collect::<Result<_>>()?;
        eventually(&format!("{viewer} dials {to:?}"), || Ok(dialled(lab, viewer)? == to))
            .with_context(|| format!("it dials {:?}", dialled(lab, viewer)))?;
        eventually(&format!("{viewer} hears from {from:?}"), || {
            Ok(heard_from(lab, viewer)? == from)
        })
        .with_context(|| format!("it hears from {:?}", heard_from(lab, viewer)))?;
        let (_, configuration) = etcd_configuration(lab, viewer)?;
        let said: BTreeSet<&str> = configuration["initial-cluster"]
            .as_str()
            .unwrap_or_default()
            .split(',')
            .collect();
        let expected = hosts.iter().map(|other| {
            Ok(format!(
                "{other}=https://{}",
                SocketAddr::new(dials(viewer, other)?, peer_port(lab, other)?)
            ))
        });
        let expected = expected.collect::<Result<BTreeSet<String>>>()?;
        ensure!(
            said == expected.iter().map(String::as_str).collect(),
            "{viewer} has {said:?} and not {expected:?}"
        );
        ensure!(
            configuration["initial-cluster-state"] == "existing",
            "{viewer} is not on its final configuration"
        );
    }
    Ok(())
}

/// Forms a cluster with one Terraform, looks at it from all sides, and destroys it; then once more with the other.
fn forms(lab: Builder, hosts: &[&str], etcd: &str, terraforms: [&str; 2]) -> Result<()> {
    let lab = lab.only(hosts).up()?;
    lab.wan_everywhere(Delay::ms(25.0))?;
    let configuration = Configuration::new(&lab, hosts, etcd)?;
    forms_in(&lab, hosts, terraforms[0], &configuration)?;
    let before = Fingerprint::take(&lab)?;
    let terraform = Terraform::new(&lab, terraforms[1])?;
    terraform.configure(&configuration.member("on_destroy", quoted("delete_data")).render())?;
    terraform.apply()?;
    one_cluster(&lab, hosts)?;
    terraform.nothing_to_do()?;
    terraform.destroy()?;
    before.unchanged(&lab)
}

fn forms_in(lab: &Lab, hosts: &[&str], terraform: &str, configuration: &Configuration) -> Result<()> {
    let before = Fingerprint::take(lab)?;
    let terraform = Terraform::new(lab, terraform)?;
    terraform.configure(&configuration.render())?;
    terraform.apply()?;
    one_cluster(lab, hosts)?;
    every_view_is_its_own(lab, hosts)?;
    for host in hosts {
        let version = status(lab, host)?.version;
        ensure!(
            configuration.member["version"] == quoted(&version),
            "{host} runs {version}"
        );
    }
    terraform.nothing_to_do()?;
    let again = terraform.apply()?;
    ensure!(again.contains("No changes"), "{again}");

    terraform.destroy()?;
    for host in hosts {
        let left = leftovers(lab, host)?;
        ensure!(left.is_empty(), "left on {host}: {left}");
        // The data, and nothing else, is kept aside, for root alone.
        let kept = lab.exec(
            host,
            "stat -c '%a %U' /var/lib/etcd/main.removed-*/. && ls /var/lib/etcd/main.removed-*/member/wal/*.wal",
        )?;
        ensure!(
            kept.clone().ok()?.starts_with("700 root"),
            "kept on {host}: {}",
            kept.stdout
        );
    }
    before.unchanged_but_for(lab, |line| line.contains(" /var/lib/etcd"))
}

const THREE: [&str; 3] = ["a1", "b1", "c1"];
const FIVE: [&str; 5] = ["a1", "a2", "b1", "b2", "c1"];

// Every version of etcd with both versions of Terraform, and each way in which routers treat their site's own public addresses.

/// The port that the host's member listens at for peers.
fn peer_port(lab: &Lab, host: &str) -> Result<u16> {
    let (_, configuration) = etcd_configuration(lab, host)?;
    let url = configuration["listen-peer-urls"]
        .as_str()
        .context("no listen-peer-urls")?;
    let port = url.rsplit_once(':').context("no port")?.1;
    Ok(port.parse()?)
}

#[test]
fn three_servers_on_etcd_3_4() -> Result<()> {
    forms(
        Builder::standard(&prefix("form-34")),
        &THREE,
        "3.4.23",
        ["1.11", "1.15"],
    )
}

#[test]
fn three_servers_on_etcd_3_5() -> Result<()> {
    let lab = Builder::standard(&prefix("form-35")).hairpin(Hairpin::Public);
    forms(lab, &["a1", "a2", "b1"], "3.5.30", ["1.15", "1.11"])
}

#[test]
fn three_servers_on_etcd_3_6() -> Result<()> {
    forms(
        Builder::standard(&prefix("form-36")),
        &THREE,
        "3.6.16",
        ["1.11", "1.15"],
    )
}

#[test]
fn five_servers_on_etcd_3_7() -> Result<()> {
    let lab = Builder::standard(&prefix("form-37")).hairpin(Hairpin::Dropped);
    forms(lab, &FIVE, "3.7.3", ["1.15", "1.11"])
}

#[test]
fn three_servers_with_opentofu() -> Result<()> {
    let lab = Builder::standard(&prefix("form-tofu")).only(&THREE).up()?;
    forms_in(&lab, &THREE, OPENTOFU, &Configuration::new(&lab, &THREE, "3.6.16")?)
}

#[test]
fn one_at_a_time_as_root() -> Result<()> {
    let lab = Builder::standard(&prefix("form-one")).only(&THREE).up()?;
    let terraform = Terraform::new(&lab, "1.11")?;
    terraform.configure(
        &Configuration::new(&lab, &THREE, "3.6.16")?
            .ssh("user", quoted("root"))
            .render(),
    )?;
    terraform
        .run(&["apply", "-auto-approve", "-input=false", "-no-color", "-parallelism=1"])?
        .ok()?;
    one_cluster(&lab, &THREE)?;
    Ok(())
}

#[test]
fn a_user_whose_sudo_asks_for_a_password() -> Result<()> {
    let lab = Builder::standard(&prefix("form-sudo")).only(&THREE).up()?;
    let configuration = Configuration::new(&lab, &THREE, "3.6.16")?
        .ssh("user", quoted("ops"))
        .ssh("sudo", format!("{{ password = {} }}", quoted(PASSWORD)));
    forms_in(&lab, &THREE, "1.15", &configuration)
}

#[test]
fn a_site_behind_a_bastion_and_an_outgoing_address_of_its_own() -> Result<()> {
    // Only the door can be entered from outside; i1's peer port is forwarded, its sshd is not.
    let mut lab = Builder::new(&prefix("form-bastion"))
        .site(Site::new("A", [10, 0, 0, 1], 24, [203, 0, 113, 10]))
        .site(Site::new("B", [10, 0, 0, 1], 24, [203, 0, 113, 20]))
        .site(Site::new("C", [192, 168, 7, 1], 24, [203, 0, 113, 30]))
        .host(HostSpec::new("door", "A", [10, 0, 0, 2]).one_to_one([203, 0, 113, 12]))
        .host(HostSpec::new("i1", "A", [10, 0, 0, 11]).forwarded(&[(2380, 2380), (2379, 2379)]))
        .host(HostSpec::new("b1", "B", [10, 0, 0, 11]).one_to_one([203, 0, 113, 21]))
        .host(HostSpec::new("c1", "C", [192, 168, 7, 31]).forwarded(&[(22, 22), (2379, 2379), (2380, 2380)]))
        .up()?;
    lab.egress("b1", Some(Ipv4Addr::new(203, 0, 113, 29)))?;
    let hosts = ["i1", "b1", "c1"];
    let door = lab.host_key("door")?;
    let bastion = format!("{{ host = \"203.0.113.12\", host_key = {} }}", quoted(&door));
    let configuration = Configuration::new(&lab, &hosts, "3.6.16")?.server(
        "i1",
        "ssh",
        format!(
            "{{ host = \"10.0.0.11\", host_key = {}, bastion = {bastion} }}",
            quoted(&lab.host_key("i1")?)
        ),
    );
    let terraform = Terraform::new(&lab, "1.11")?;
    terraform.configure(&configuration.render())?;
    terraform.apply()?;
    one_cluster(&lab, &hosts)?;
    for host in ["i1", "c1"] {
        assert!(
            heard_from(&lab, host)?.contains(&IpAddr::from([203, 0, 113, 29])),
            "{host} hears b1 by its outgoing address"
        );
    }
    Ok(())
}

/// Sites A and B are on IPv6, with the same private range and even the same private address; C has an IPv4 address only.
#[test]
fn sites_on_ipv6_and_one_on_ipv4() -> Result<()> {
    let lab = Builder::standard(&prefix("form-six")).dual_stack().up()?;
    lab.wan_everywhere(Delay::ms(25.0))?;
    let mut configuration = Configuration::new(&lab, &FIVE, "3.6.16")?;
    for host in &FIVE[..4] {
        let addresses = lab.ipv6(host)?.context("no IPv6 addresses")?;
        configuration = configuration
            .server(host, "private_address", quoted(&addresses.private.to_string()))
            .server(host, "public_address", quoted(&addresses.public.to_string()));
    }
    let before = Fingerprint::take(&lab)?;
    let terraform = Terraform::new(&lab, "1.15")?;
    terraform.configure(&configuration.member("on_destroy", quoted("delete_data")).render())?;
    terraform.apply()?;
    one_cluster(&lab, &FIVE)?;
    let six = |host: &str| lab.ipv6(host)?.context("no IPv6 addresses");
    let dialled_by = |viewer: &str, other: &str| {
        if other == "c1" {
            return dials(&lab, viewer, other);
        }
        let near = lab.spec().site_of(viewer)? == lab.spec().site_of(other)?;
        Ok(if near { six(other)?.private } else { six(other)?.public }.into())
    };
    // Everybody has addresses of both kinds to go out by, and takes that of the kind that is dialled.
    let heard_by = |viewer: &str, other: &str| match (viewer, other) {
        ("c1", _) => dials(&lab, viewer, other),
        (_, "c1") => Ok(six("c1")?.public.into()),
        _ => dialled_by(viewer, other),
    };
    views_are(&lab, &FIVE, dialled_by, heard_by)?;
    terraform.nothing_to_do()?;
    terraform.destroy()?;
    before.unchanged(&lab)
}
