//! A server is stolen: its member is taken out, and what it held is accepted no more.

use anyhow::{Result, ensure};
use etcd_lab::{Builder, Lab};

use crate::configuration::Configuration;
use crate::outside::{eventually, member_list, one_cluster};
use crate::prefix;
use crate::terraform::Terraform;
use crate::writer::Writer;

const FOUR: [&str; 4] = ["a1", "a2", "b1", "c1"];
const THREE: [&str; 3] = ["a1", "a2", "c1"];
const ETCD: &str = "3.6.16";

/// Whether `host`'s member answers who shows this certificate out of a folder on that host, to clients and to peers.
fn lets_in(lab: &Lab, host: &str, folder: &str) -> Result<(bool, bool)> {
    let script = format!(
        "cd {folder}; /opt/etcd/{ETCD}/etcdctl --endpoints=https://127.0.0.1:2379 --cacert=/etc/etcd/main/pki/client-ca.crt \
         --cert=operator.crt --key=operator.key --command-timeout=3s get k >/dev/null 2>&1 && echo client; \
         curl -sk --http1.1 --cert peer-client.crt --key peer-client.key -o /dev/null -w '%{{http_code}}\\n' \
         \"https://$(sed -n 's|^listen-peer-urls: \"https://\\([^\"]*\\)\".*|\\1|p' /etc/etcd/main/etcd.yaml)/members\" || :"
    );
    let said = lab.exec(host, &script)?.stdout;
    Ok((said.contains("client"), said.contains("200")))
}

#[test]
fn what_a_stolen_server_held_is_accepted_no_more() -> Result<()> {
    let lab = Builder::standard(&prefix("stolen")).only(&FOUR).up()?;
    let terraform = Terraform::new(&lab, "1.15")?;
    terraform.configure(&Configuration::new(&lab, &FOUR, ETCD)?.render())?;
    terraform.apply()?;
    one_cluster(&lab, &FOUR)?;
    let serials = terraform.attributes("etcd_member.this[\"b1\"]")?["certificate_serials"].clone();
    let serials: Vec<String> = { serials.as_object().into_iter().flatten() }
        .filter_map(|(_, serial)| serial.as_str().map(str::to_owned))
        .collect();
    ensure!(serials.len() == 4, "{serials:?}");
    for file in ["operator.crt", "operator.key", "peer-client.crt", "peer-client.key"] {
        let held = lab.read_file("b1", &format!("/etc/etcd/main/pki/{file}"))?;
        for host in THREE {
            lab.exec(host, "mkdir -p /root/stolen")?.ok()?;
            lab.write_file(host, &format!("/root/stolen/{file}"), held.as_bytes())?;
        }
    }
    for host in THREE {
        ensure!(
            lets_in(&lab, host, "/root/stolen")? == (true, true),
            "{host} does not accept it before"
        );
    }

    // What is in use can't be revoked: the others would cut it off.
    let revoking = |hosts: &[&str], serials: &[String]| -> Result<String> {
        let listed = serials
            .iter()
            .map(|serial| format!("{serial:?}"))
            .collect::<Vec<_>>()
            .join(", ");
        let configuration = Configuration::new(&lab, hosts, ETCD)?;
        Ok(configuration
            .cluster("tls", format!("{{ revoked = [{listed}] }}"))
            .render())
    };
    terraform.write("main.tf", &revoking(&FOUR, &serials)?)?;
    let said = terraform.apply_fails()?;
    ensure!(
        said.contains("A certificate that is in use can't be revoked") && said.contains("Server b1"),
        "{said}"
    );
    ensure!(
        lets_in(&lab, "a1", "/root/stolen")? == (true, true),
        "something was changed"
    );

    lab.power_off("b1")?;
    terraform.write("main.tf", &Configuration::new(&lab, &THREE, ETCD)?.render())?;
    let said = terraform.apply()?;
    let said = said
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .replace(" │ ", " ");
    for word in ["was left as it is", "tls.revoked", "tls.ca_rotation"]
        .into_iter()
        .chain(serials.iter().map(String::as_str))
    {
        ensure!(said.contains(word), "no {word:?} in {said}");
    }
    ensure!(member_list(&lab, "a1")?.len() == 3);
    ensure!(
        lets_in(&lab, "a1", "/root/stolen")? == (true, true),
        "a removed member's certificates are accepted"
    );

    let writer = Writer::start(&lab, &THREE)?;
    terraform.write("main.tf", &revoking(&THREE, &serials)?)?;
    terraform.apply()?;
    terraform.nothing_to_do()?;
    writer.stop()?.nothing_lost()?;
    one_cluster(&lab, &THREE)?;
    for host in THREE {
        ensure!(
            lets_in(&lab, host, "/root/stolen")? == (false, false),
            "{host} accepts what was revoked"
        );
        ensure!(
            lets_in(&lab, host, "/etc/etcd/main/pki")? == (true, true),
            "{host} accepts nothing"
        );
        eventually("the log says so", || {
            Ok(lab
                .exec(
                    host,
                    "journalctl -u etcd-main | grep -q 'certificate serial .* revoked'",
                )?
                .success())
        })?;
    }

    // Another server joins with the list, and what was forgotten by hand is drift.
    lab.exec("a2", "rm /etc/etcd/main/pki/revoked.crl")?.ok()?;
    terraform.apply()?;
    terraform.nothing_to_do()?;
    ensure!(lets_in(&lab, "a2", "/root/stolen")? == (false, false));
    terraform.write("main.tf", &Configuration::new(&lab, &THREE, ETCD)?.render())?;
    terraform.apply()?;
    terraform.nothing_to_do()?;
    ensure!(
        lets_in(&lab, "a1", "/root/stolen")? == (true, true),
        "the list was taken back"
    );
    Ok(())
}
