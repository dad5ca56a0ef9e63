//! What goes wrong when a cluster that was made by other means is taken over: it is refused in words, or goes on where it was cut off.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use etcd_lab::{Builder, Lab};

use crate::authorities::make_authorities;
use crate::fingerprint::Fingerprint;
use crate::outside::{ctl, eventually, member_list, one_cluster};
use crate::plain::{HOSTS, Kind, by_names, configuration, imports, make};
use crate::prefix;
use crate::terraform::Terraform;
use crate::writer::Writer;

const VERSION: &str = "3.6.16";
const APPLY: [&str; 4] = ["apply", "-auto-approve", "-input=false", "-no-color"];

/// All that isn't the members' own.
fn hosts(lab: &Lab) -> Result<Fingerprint> {
    Ok(Fingerprint::take(lab)?.without(|line| line.contains("/var/lib/etcd/")))
}

fn is_there(lab: &Lab, host: &str, file: &str) -> Result<bool> {
    Ok(lab.exec(host, &format!("test -e {file}"))?.success())
}

/// An import with these blocks is refused in these words, and changes nothing.
fn refused(terraform: &Terraform, text: &str, words: &[&str]) -> Result<()> {
    terraform.write("main.tf", text)?;
    let said = terraform.apply_fails()?;
    for word in words {
        ensure!(said.contains(word), "not said: {word}\n{said}");
    }
    Ok(())
}

#[test]
fn what_can_t_be_taken_over_is_refused_and_left_alone() -> Result<()> {
    let lab = Builder::standard(&prefix("plain-no")).only(&HOSTS).up()?;
    let terraform = Terraform::new(&lab, "1.15")?;
    make_authorities(&terraform.work())?;
    make(&lab, &HOSTS, VERSION, Kind::Debian, &terraform.work())?;
    let configured = configuration(&lab, &HOSTS, VERSION, Kind::Debian)?.render();
    let imports_of = |hosts: &[&str]| imports(&lab, hosts, Kind::Debian, true);
    let imports = imports_of(&HOSTS)?;
    let whole = configured.clone() + &imports;
    terraform.configure(&whole)?;
    let before = hosts(&lab)?;

    let other = whole.replace("etcd.service", "none.service");
    refused(&terraform, &other, &["Server a1: there is no service none.service."])?;
    let ours = whole.replace("etcd.service", "etcd-main");
    refused(
        &terraform,
        &ours,
        &["would run the cluster's members by the service etcd-main.service too"],
    )?;
    // Where the service could not see it.
    let hidden = whole.replace(&format!("\"/opt/etcd/{VERSION}\""), "\"/root/etcd\"");
    refused(
        &terraform,
        &hidden,
        &["is in /root, which the member's service can't see"],
    )?;
    let elsewhere = imports.replace(
        "private_address = \"192.168.7.31\"",
        "peer_port = 2390, private_address = \"192.168.7.31\"",
    );
    let port = configured.clone() + &elsewhere;
    refused(
        &terraform,
        &port,
        &["Server c1: it listens for peers on port 2380, and the server's peer_port is 2390."],
    )?;
    let two = ["a1", "b1"];
    let fewer = configuration(&lab, &two, VERSION, Kind::Debian)?.render() + &imports_of(&two)?;
    refused(
        &terraform,
        &fewer,
        &[
            "It has a member",
            "(n-c1, http://203.0.113.30:2380) that runs on none of these servers",
        ],
    )?;
    // The plan says it, with everything else.
    let newer = whole.replace(VERSION, "3.7.3");
    refused(
        &terraform,
        &newer,
        &["It runs etcd 3.6.16 and is still to be taken over. Take it over with a version of 3.6"],
    )?;
    ensure!(hosts(&lab)? == before, "a refusal changed something");

    ctl(&lab, "a1", "user add root:secret")?;
    ctl(&lab, "a1", "user grant-role root root")?;
    ctl(&lab, "a1", "auth enable")?;
    refused(
        &terraform,
        &whole,
        &[
            "Access control is on in it (etcdctl auth enable), and the certificate that was shown is not that of its user root",
        ],
    )?;
    ctl(&lab, "a1", "--user root:secret auth disable")?;

    let added = ctl(
        &lab,
        "a1",
        "member add --learner new --peer-urls=http://203.0.113.99:2380",
    )?;
    refused(
        &terraform,
        &whole,
        &["(never started, http://203.0.113.99:2380) that runs on none of these servers"],
    )?;
    let id = added.split_whitespace().nth(1).context("no ID")?;
    ctl(&lab, "a1", &format!("member remove {id}"))?;

    lab.exec("c1", "systemctl stop etcd")?.ok()?;
    refused(
        &terraform,
        &whole,
        &["Server c1: the service etcd.service does not run."],
    )?;
    lab.exec("c1", "systemctl start etcd")?.ok()?;
    let before = hosts(&lab)?;

    // Imported, and not taken over: nothing is this provider's to destroy, and nobody is touched whose service does not run.
    terraform.write("main.tf", &whole)?;
    for (address, id) in import_ids(&lab)? {
        terraform
            .run(&["import", "-input=false", "-no-color", &address, &id])?
            .ok()?;
    }
    let said = terraform.run(&["destroy", "-auto-approve", "-input=false", "-no-color"])?;
    ensure!(
        !said.success() && said.stderr.contains("is not this provider's yet"),
        "{said:?}"
    );
    ensure!(hosts(&lab)? == before, "a destroy that was refused changed something");
    lab.exec("c1", "systemctl stop etcd")?.ok()?;
    let short = configuration(&lab, &HOSTS, VERSION, Kind::Debian)?.member("timeouts", "{ update = \"15s\" }");
    refused(
        &terraform,
        &short.render(),
        &[
            "server c1: the service that ran the member before this provider does not run",
            "1 of 3 voting members would be healthy, where 2 have to be",
        ],
    )?;
    for host in HOSTS {
        // The cluster's names are written before its members are asked.
        let found = lab.exec(host, "ls -A /etc/etcd/main 2>/dev/null")?.stdout;
        ensure!(
            ["", "hosts"].contains(&found.trim()),
            "something was laid down on {host}: {found}"
        );
    }
    lab.exec("c1", "systemctl start etcd")?.ok()?;
    // One that others can't dial by its name keeps its address.
    lab.exec(
        "c1",
        "cp /etc/nsswitch.conf /root; sed -i 's/^hosts:.*/hosts: dns/' /etc/nsswitch.conf",
    )?
    .ok()?;
    refused(
        &terraform,
        &configured,
        &[
            "was taken over, and its peer URL stays http://203.0.113",
            "on c1 the name",
        ],
    )?;
    one_cluster(&lab, &HOSTS)?;
    lab.exec("c1", "mv /root/nsswitch.conf /etc/nsswitch.conf")?.ok()?;
    terraform.write("main.tf", &configured)?;
    terraform.apply()?;
    terraform.nothing_to_do()?;
    one_cluster(&lab, &HOSTS)?;

    // Its state lost, it is imported like any cluster of this provider's.
    terraform.forget()?;
    let again = imports.replace(", adopted_from = \"etcd.service\"", "");
    terraform.write("main.tf", &(configured + &again))?;
    let applied = terraform.apply()?;
    ensure!(
        applied.contains("7 imported, 0 added, 0 changed, 0 destroyed"),
        "{applied}"
    );
    Ok(())
}

/// The addresses of all resources, and the IDs that `terraform import` takes.
fn import_ids(lab: &Lab) -> Result<Vec<(String, String)>> {
    let mut servers = serde_json::Map::new();
    for host in HOSTS {
        let public = lab.public_address(host)?.context("no public address")?.to_string();
        let (network, private) = (lab.spec().site_of(host)?, lab.private_address(host)?.to_string());
        let server = serde_json::json!({ "network": network, "private_address": private, "public_address": public });
        servers.insert(host.to_owned(), server);
    }
    let mut all = Vec::new();
    for (host, server) in &servers {
        let mut server = server.clone();
        server["name"] = host.as_str().into();
        all.push((format!("etcd_server.{host}"), server));
    }
    let cluster = serde_json::json!({ "name": "main", "servers": servers, "adopted_from": "etcd.service" });
    all.push(("etcd_cluster.main".to_owned(), cluster));
    for host in HOSTS {
        let member = serde_json::json!({ "cluster": "main", "server": host, "servers": servers, "adopted_from": "etcd.service" });
        all.push((format!("etcd_member.this[\"{host}\"]"), member));
    }
    Ok(all.into_iter().map(|(address, id)| (address, id.to_string())).collect())
}

/// The provider is killed at places that are hard to come back from; a member is left down in the middle of its hand-over. The next apply
/// goes on from there, and nothing is lost.
#[test]
fn taking_over_goes_on_wherever_it_was_cut_off() -> Result<()> {
    let lab = Builder::standard(&prefix("plain-cut")).only(&HOSTS).up()?;
    let terraform = Terraform::new(&lab, "1.15")?;
    make_authorities(&terraform.work())?;
    make(&lab, &HOSTS, VERSION, Kind::Own, &terraform.work())?;
    let cluster = one_cluster(&lab, &HOSTS)?;
    let ids: BTreeSet<u64> = member_list(&lab, "a1")?.into_iter().map(|one| one.id).collect();
    let text = configuration(&lab, &HOSTS, VERSION, Kind::Own)?.render();
    terraform.configure(&(text.clone() + &imports(&lab, &HOSTS, Kind::Own, false)?))?;
    let writer = Writer::start(&lab, &HOSTS)?;

    let with = |file: &str| -> Result<Vec<&str>> {
        let mut found = Vec::new();
        for host in HOSTS {
            if is_there(&lab, host, file)? {
                found.push(host);
            }
        }
        Ok(found)
    };
    // As the hand-over of the first begins, then as soon as its name is in the list, then as the second begins.
    for (moment, hosts) in [("the first begins", 1), ("the second begins", 2)] {
        let mut running = terraform.start(&APPLY)?;
        eventually(moment, || {
            ensure!(!running.ended()?, "the apply ended before {moment}");
            Ok(with("/etc/etcd/main/adopted-from")?.len() >= hosts && !with("/etc/etcd/main/adopting")?.is_empty())
        })?;
        running.kill_provider()?;
        let said = running.wait()?;
        ensure!(!said.success(), "{moment}: it was not cut off");
        eprintln!(
            "cut off when {moment}; the marks stand on {:?}",
            with("/etc/etcd/main/adopting")?
        );
    }
    // One whose hand-over came to a halt between the old service and the new one, as after a power cut.
    let begun = with("/etc/etcd/main/adopting")?;
    let host = *begun.first().context("nobody's hand-over is under way")?;
    lab.exec(host, "systemctl stop etcd-main; systemctl stop kv-store")?
        .ok()?;
    terraform.apply()?;
    terraform.write("main.tf", &text)?;
    terraform.nothing_to_do()?;
    let written = writer.stop()?;
    eprintln!("cut off three times: {written}");
    written.nothing_lost()?;
    ensure!(one_cluster(&lab, &HOSTS)? == cluster, "it is another cluster");
    by_names(&lab, &HOSTS, &ids, Kind::Own)
}
