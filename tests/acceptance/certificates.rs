//! Certificates are issued anew, and authorities replaced, while a client writes: no link is cut.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use etcd_lab::{Builder, Delay, Lab};

use crate::configuration::{Configuration, quoted};
use crate::outside::eventually;
use crate::prefix;
use crate::rolling::started;
use crate::scaling::Scene;
use crate::writer::Writer;

const FIVE: [&str; 5] = ["a1", "a2", "b1", "b2", "c1"];

/// The SHA-256 of a file of the member's on each host.
pub fn sums(lab: &Lab, hosts: &[&str], file: &str) -> Result<BTreeMap<String, String>> {
    let sums = hosts.iter().map(|host| {
        let sum = lab.exec(host, &format!("sha256sum </etc/etcd/main/pki/{file}"))?.ok()?;
        Ok(((*host).to_owned(), sum))
    });
    sums.collect()
}

fn each_differs(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> bool {
    before.iter().all(|(host, sum)| after[host] != *sum)
}

/// How many certificates a file holds on each host.
fn trusted(lab: &Lab, hosts: &[&str]) -> Result<Vec<usize>> {
    let counts = hosts.iter().map(|host| {
        let count = lab.exec(host, "grep -c BEGIN /etc/etcd/main/pki/peer-ca.crt")?.ok()?;
        Ok(count.trim().parse()?)
    });
    counts.collect()
}

#[test]
fn the_authorities_are_replaced_in_three_steps() -> Result<()> {
    rotation("rotate", 0.0)
}

#[test]
fn the_authorities_are_replaced_at_a_distance() -> Result<()> {
    rotation("rotate-far", 50.0)
}

fn rotation(name: &str, one_way: f64) -> Result<()> {
    let lab = Builder::standard(&prefix(name)).up()?;
    lab.wan_everywhere(Delay::ms(one_way))?;
    let scene = Scene::found(&lab, &FIVE)?;
    let configuration = Configuration::new(&lab, &FIVE, "3.6.16")?.cluster("tls", "{ ca_rotation = \"2027\" }");
    scene.terraform.write("main.tf", &configuration.render())?;
    let (before, leaves) = (started(&lab, &FIVE)?, sums(&lab, &FIVE, "peer.crt")?);
    let writer = Writer::start(&lab, &FIVE)?;
    let begun = Instant::now();

    scene.terraform.apply().context("step 1")?;
    let both = started(&lab, &FIVE)?;
    ensure!(trusted(&lab, &FIVE)? == [2; 5], "both are trusted");
    ensure!(
        before.iter().all(|(host, time)| both[host] != *time),
        "a member does not trust both yet"
    );
    ensure!(
        sums(&lab, &FIVE, "peer.crt")? == leaves,
        "certificates are issued in the second step"
    );

    scene.terraform.apply().context("step 2")?;
    ensure!(started(&lab, &FIVE)? == both, "issuing needs no restart");
    for file in ["peer.crt", "peer-client.crt", "server.crt"] {
        ensure!(
            each_differs(&leaves, &sums(&lab, &FIVE, file)?),
            "{file} is the old one"
        );
    }

    // The writer trusts what the hosts trust, and shows what a member shows.
    for host in FIVE {
        writer.through(host);
    }
    scene.terraform.apply().context("step 3")?;
    ensure!(trusted(&lab, &FIVE)? == [1; 5], "only the new one is trusted");
    let took = begun.elapsed();
    let written = writer.stop()?;
    eprintln!(
        "other authorities for five members at {} ms: {took:.1?}; {written}",
        2.0 * one_way
    );
    written.nothing_lost()?;
    scene.is_whole()
}

/// Gives every member the certificate for peers that it has with ten days left, as it will be one day.
pub fn grow_old(scene: &Scene) -> Result<()> {
    with_days(scene, "peer", "peer", 10)
}

/// Gives every member a certificate that it has with so many days left; none is left if they are less than 0.
fn with_days(scene: &Scene, file: &str, authority: &str, days: i32) -> Result<()> {
    let state = scene.terraform.attributes("etcd_cluster.main")?;
    let authority = &state["certificate_authorities"][authority];
    let text = |name: &str| authority[name].as_str().map(str::to_owned).context("no authority");
    for host in &scene.hosts {
        let age = format!(
            "set -eu; umask 077; cd /etc/etcd/main/pki; d=$(mktemp -d); printf '%s' {} >$d/ca.crt; printf '%s' {} >$d/ca.key; \
             openssl x509 -x509toreq -in {file}.crt -signkey {file}.key -copy_extensions copyall -out $d/r 2>/dev/null; \
             openssl x509 -req -in $d/r -CA $d/ca.crt -CAkey $d/ca.key -days {days} -copy_extensions copyall -out $d/c 2>/dev/null; \
             cat $d/c >{file}.crt; rm -r $d; openssl x509 -in {file}.crt -noout -checkend 2592000 || true",
            shell(&text("certificate")?),
            shell(&text("private_key")?),
        );
        let said = scene.lab.exec(host, &age)?.ok()?;
        ensure!(said.contains("will expire"), "{said}");
    }
    Ok(())
}

#[test]
fn certificates_are_issued_anew_before_they_end() -> Result<()> {
    let hosts = ["a1", "b1", "c1"];
    let lab = Builder::standard(&prefix("renew")).only(&hosts).up()?;
    let scene = Scene::found(&lab, &hosts)?;
    grow_old(&scene)?;
    let (before, aged) = (started(&lab, &hosts)?, sums(&lab, &hosts, "peer.crt")?);
    let others = sums(&lab, &hosts, "server.crt")?;
    let writer = Writer::start(&lab, &hosts)?;
    // Ten days are enough where the window is shorter.
    let patient = Configuration::new(&lab, &hosts, "3.6.16")?.member("renew_before", quoted("48h"));
    scene.terraform.write("main.tf", &patient.render())?;
    scene.terraform.apply()?;
    ensure!(
        sums(&lab, &hosts, "peer.crt")? == aged,
        "it was issued anew before its time"
    );
    let usual = Configuration::new(&lab, &hosts, "3.6.16")?;
    scene.terraform.write("main.tf", &usual.render())?;
    scene.terraform.apply()?;
    ensure!(
        each_differs(&aged, &sums(&lab, &hosts, "peer.crt")?),
        "it was not issued anew"
    );
    ensure!(sums(&lab, &hosts, "server.crt")? == others, "others were issued anew");
    ensure!(started(&lab, &hosts)? == before, "a member was restarted");
    eventually("the new certificate is shown", || {
        let shown =
            "openssl s_client -connect 127.0.0.1:2380 </dev/null 2>/dev/null | openssl x509 -noout -checkend 2592000";
        Ok(lab.exec("a1", shown)?.success())
    })?;
    // All have ended, and an option is another one: what needs no restart comes first, in the same apply.
    for (file, authority) in [
        ("peer", "peer"),
        ("peer-client", "peer"),
        ("server", "client"),
        ("operator", "client"),
    ] {
        with_days(&scene, file, authority, -1)?;
    }
    let other = usual.member("config", "{ \"snapshot-count\" = \"20001\" }");
    scene.terraform.write("main.tf", &other.render())?;
    let plan = scene.terraform.run(&["plan", "-no-color", "-input=false"])?;
    let said = format!("{} {}", plan.stdout, plan.stderr);
    ensure!(said.contains("Certificates of the cluster main have expired"), "{said}");
    ensure!(!said.contains("has no quorum"), "{said}");
    scene
        .terraform
        .apply()
        .context("with expired certificates and another option")?;
    let after = started(&lab, &hosts)?;
    ensure!(
        hosts.iter().all(|host| after[*host] != before[*host]),
        "not all were restarted"
    );
    let written = writer.stop()?;
    written.nothing_lost()?;
    scene.is_whole()
}

/// One word for the shell.
fn shell(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}
