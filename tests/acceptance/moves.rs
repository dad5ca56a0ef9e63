//! Addresses change under a running cluster: each change is one apply, and no member restarts or changes its identity.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context, Result, ensure};
use etcd_lab::{Builder, Delay, Lab};

use crate::configuration::{Configuration, quoted};
use crate::outside::{ctl, dialled, etcd_configuration, one_cluster, status};
use crate::prefix;
use crate::terraform::Terraform;
use crate::writer::Writer;

const HOSTS: [&str; 3] = ["a1", "a2", "b1"];
const ETCD: &str = "3.6.16";

/// The addresses by which each host is to dial the others, in the order of [`HOSTS`].
type Views = [[[u8; 4]; 2]; 3];

/// What must stay as it is: the processes, and who is who.
fn identities(lab: &Lab) -> Result<Vec<(String, u64)>> {
    HOSTS
        .iter()
        .map(|host| {
            let process = lab
                .exec(host, "systemctl show -p MainPID -p ActiveEnterTimestamp etcd-main")?
                .ok()?;
            Ok((process, status(lab, host)?.member_id))
        })
        .collect()
}

/// Applies what the configuration says now, while a client writes, and looks at it from all sides.
fn moves(
    lab: &Lab,
    terraform: &Terraform,
    before: &[(String, u64)],
    what: &str,
    parallelism: &str,
    views: Views,
) -> Result<()> {
    let writer = Writer::start(lab, &HOSTS)?;
    let applied = terraform
        .run(&["apply", "-auto-approve", "-input=false", "-no-color", parallelism])?
        .ok()
        .with_context(|| format!("{what}: terraform apply"))?;
    HOSTS.iter().for_each(|host| writer.through(host));
    ensure!(!applied.contains("does not dial"), "{what}: {applied}");
    for (host, view) in HOSTS.iter().zip(views) {
        let others: Vec<&&str> = HOSTS.iter().filter(|other| *other != host).collect();
        let to: BTreeSet<IpAddr> = view.into_iter().map(IpAddr::from).collect();
        ensure!(
            dialled(lab, host)? == to,
            "{what}: {host} dials {:?} and not {to:?}",
            dialled(lab, host)
        );
        let text = lab.read_file(host, "/etc/hosts")?;
        let (_, configuration) = etcd_configuration(lab, host)?;
        let said = configuration["initial-cluster"].as_str().unwrap_or_default().to_owned();
        for (other, address) in others.iter().zip(view) {
            let address = Ipv4Addr::from(address);
            ensure!(
                text.contains(&format!("{address} {other}.main.etcd.internal\n")),
                "{what}: {host} has\n{text}"
            );
            ensure!(
                said.contains(&format!("{other}=https://{address}:2380")),
                "{what}: {host} has {said}"
            );
        }
    }
    ensure!(
        identities(lab)? == before,
        "{what}: a member restarted, or is another one"
    );
    terraform.nothing_to_do().with_context(|| what.to_owned())?;
    one_cluster(lab, &HOSTS)?;
    let written = writer.stop()?;
    eprintln!("{what}: {written}");
    ensure!(written.lost.is_empty(), "{what}: {written}");
    Ok(())
}

/// Whether the member on `host` shows a certificate for its `address` to clients.
fn shows_certificate_for(lab: &Lab, from: &str, address: &str) -> Result<()> {
    ctl(
        lab,
        from,
        &format!("--endpoints=https://{address}:2379 endpoint health"),
    )
    .map(drop)
}

#[test]
fn addresses_move_without_a_restart() -> Result<()> {
    let lab = Builder::standard(&prefix("moves")).only(&HOSTS).up()?;
    lab.wan_everywhere(Delay::ms(10.0))?;
    // What moves the hosts, while Terraform has the lab.
    let mut movers = Lab::attach(lab.prefix())?;
    let terraform = Terraform::new(&lab, "1.15")?;
    let configuration = Configuration::new(&lab, &HOSTS, ETCD)?;
    terraform.configure(&configuration.render())?;
    terraform.apply()?;
    let before = identities(&lab)?;

    // The public address of b1: packets for the old one go nowhere from now on.
    movers.set_public("b1", [203, 0, 113, 29].into())?;
    let configuration = configuration.server("b1", "public_address", quoted("203.0.113.29"));
    terraform.write("main.tf", &configuration.render())?;
    let views = [
        [[10, 0, 0, 12], [203, 0, 113, 29]],
        [[10, 0, 0, 11], [203, 0, 113, 29]],
        [[203, 0, 113, 11], [203, 0, 113, 12]],
    ];
    moves(&lab, &terraform, &before, "a public address", "-parallelism=10", views)?;
    shows_certificate_for(&lab, "a1", "203.0.113.29")?;

    // The private address of a2; one thing at a time.
    movers.set_private("a2", [10, 0, 0, 22].into())?;
    let configuration = configuration.server("a2", "private_address", quoted("10.0.0.22"));
    terraform.write("main.tf", &configuration.render())?;
    let views = [
        [[10, 0, 0, 22], [203, 0, 113, 29]],
        [[10, 0, 0, 11], [203, 0, 113, 29]],
        [[203, 0, 113, 11], [203, 0, 113, 12]],
    ];
    moves(&lab, &terraform, &before, "a private address", "-parallelism=1", views)?;
    shows_certificate_for(&lab, "a1", "10.0.0.22")?;

    // a2 counts as one of another network: it and a1 dial each other by public address, though the private ones still work.
    let configuration = configuration.server("a2", "network", quoted("D"));
    terraform.write("main.tf", &configuration.render())?;
    let views = [
        [[203, 0, 113, 12], [203, 0, 113, 29]],
        [[203, 0, 113, 11], [203, 0, 113, 29]],
        [[203, 0, 113, 11], [203, 0, 113, 12]],
    ];
    moves(&lab, &terraform, &before, "another network", "-parallelism=10", views)
}
