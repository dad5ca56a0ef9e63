//! What is there for a run only: a tunnel and a client's certificate, with which another program of the same apply uses the cluster.
//! Neither is in the state or in a plan.

use anyhow::{Context, Result, ensure};
use etcd_lab::{Builder, cache_folder};

use crate::configuration::Configuration;
use crate::outside::{ctl, eventually, status};
use crate::prefix;
use crate::terraform::{OPENTOFU, Terraform};

const HOSTS: [&str; 3] = ["a1", "b1", "c1"];

/// A provisioner that writes with etcdctl, on the machine that runs Terraform, when the revision changes.
fn user(etcdctl: &str, words: &str) -> String {
    format!(
        r#"
variable "revision" {{ default = 1 }}
ephemeral "etcd_tunnel" "main" {{
  cluster    = etcd_cluster.main
  depends_on = [etcd_member.this]
}}
ephemeral "etcd_client_certificate" "main" {{
  cluster     = etcd_cluster.main
  common_name = "another-provider"
  lifetime    = "1h"
}}
resource "terraform_data" "other" {{
  triggers_replace = var.revision
  depends_on       = [etcd_member.this]
  provisioner "local-exec" {{
    interpreter = ["/bin/sh", "-euc"]
    environment = {{
      ENDPOINT = ephemeral.etcd_tunnel.main.endpoint
      ADDRESS  = ephemeral.etcd_tunnel.main.address
      CA       = ephemeral.etcd_tunnel.main.ca_pem
      CERT     = ephemeral.etcd_client_certificate.main.certificate_pem
      KEY      = ephemeral.etcd_client_certificate.main.private_key_pem
    }}
    command = <<-EOT
      cd "$(mktemp -d)"
      umask 077
      printf %s "$CA" >ca.pem; printf %s "$CERT" >cert.pem; printf %s "$KEY" >key.pem
      ctl() {{ ETCDCTL_API=3 {etcdctl} --endpoints="$ENDPOINT" --cacert=ca.pem --cert=cert.pem --key=key.pem --dial-timeout=5s --command-timeout=20s "$@"; }}
      {words}
    EOT
  }}
}}
"#
    )
}

#[test]
fn another_program_uses_the_cluster_in_the_same_apply() -> Result<()> {
    another_program("ephemeral", "1.11")
}

#[test]
fn another_program_uses_the_cluster_in_the_same_apply_with_opentofu() -> Result<()> {
    another_program("ephemeral-tofu", OPENTOFU)
}

fn another_program(test: &str, terraform: &str) -> Result<()> {
    let lab = Builder::standard(&prefix(test)).only(&HOSTS).up()?;
    let terraform = Terraform::new(&lab, terraform)?;
    let etcdctl = cache_folder().join("etcd/3.6.16/etcdctl").display().to_string();
    let seen = terraform.work().join("seen");
    let words = format!(
        "ctl put greeting \"hello ${{var.revision}}\"; cp cert.pem {seen}.pem; echo \"$ADDRESS\" >{seen}; ss -Hltn >{seen}.ports",
        seen = seen.display()
    );
    let configuration = Configuration::new(&lab, &HOSTS, "3.6.16")?.render();
    terraform.configure(&(configuration.clone() + &user(&etcdctl, &words)))?;
    terraform.run(&["plan", "-input=false", "-out=first.plan"])?.ok()?;
    terraform.apply()?;
    ensure!(
        ctl(&lab, "c1", "get --print-value-only greeting")?.trim() == "hello 1",
        "the other program did not write"
    );

    // Open while it was used, on loopback alone, and gone with the run.
    let address = std::fs::read_to_string(&seen)?.trim().to_owned();
    let ports = std::fs::read_to_string(seen.with_extension("ports"))?;
    ensure!(
        address.starts_with("127.0.0.1:") && ports.contains(&address),
        "{address}: {ports}"
    );
    let now = lab.controller("ss").arg("-Hltn").output()?;
    ensure!(
        !String::from_utf8_lossy(&now.stdout).contains(&address),
        "{address} is open still"
    );

    // A plan of an existing cluster opens both too, and stores neither.
    terraform
        .run(&["plan", "-input=false", "-var=revision=2", "-out=second.plan"])?
        .ok()?;
    let certificate = std::fs::read_to_string(seen.with_extension("pem"))?;
    let line = certificate.lines().nth(3).context("a certificate")?;
    for entry in std::fs::read_dir(terraform.work())? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !(name.contains("tfstate") || name.ends_with(".plan")) {
            continue;
        }
        let text = if name.ends_with(".plan") {
            let shown = terraform.run(&["show", "-json", &name])?.ok()?;
            shown + &String::from_utf8_lossy(&std::fs::read(&path)?)
        } else {
            std::fs::read_to_string(&path)?
        };
        ensure!(!text.contains(line), "the certificate is in {name}");
        ensure!(
            !text.contains("another-provider") || name.ends_with(".plan"),
            "the ephemeral resource is in {name}"
        );
        ensure!(!text.contains(&address), "the tunnel is in {name}");
    }

    // One member goes away, then the other comes back and a second one goes: the tunnel serves on.
    lab.power_off("a1")?;
    eventually("the others have a leader", || {
        Ok(status(&lab, "b1").is_ok_and(|status| status.leader != 0) && ctl(&lab, "b1", "put there yes").is_ok())
    })?;
    let words = "ctl put greeting \"hello ${var.revision}\"";
    terraform.write("main.tf", &(configuration + &user(&etcdctl, words)))?;
    let arguments = [
        "apply",
        "-auto-approve",
        "-input=false",
        "-no-color",
        "-var=revision=2",
        "-refresh=false",
        "-target=terraform_data.other",
    ];
    terraform.run(&arguments)?.ok()?;
    ensure!(
        ctl(&lab, "c1", "get --print-value-only greeting")?.trim() == "hello 2",
        "it did not write past a1"
    );
    Ok(())
}

#[test]
fn the_tunnel_goes_on_through_another_member() -> Result<()> {
    let lab = Builder::standard(&prefix("tunnel")).only(&HOSTS).up()?;
    let terraform = Terraform::new(&lab, "1.15")?;
    let etcdctl = cache_folder().join("etcd/3.6.16/etcdctl").display().to_string();
    let (ready, gone) = (terraform.work().join("ready"), terraform.work().join("gone"));
    // One put, then a member is stopped while the tunnel is open, and thirty more.
    let words = format!(
        "ctl put before yes; touch {ready}; until [ -e {gone} ]; do sleep 0.1; done; \
         for n in $(seq 30); do ctl put after/$n yes || ctl put after/$n yes; done",
        ready = ready.display(),
        gone = gone.display()
    );
    let configuration = Configuration::new(&lab, &HOSTS, "3.6.16")?.render();
    terraform.configure(&(configuration + &user(&etcdctl, &words)))?;
    let running = terraform.start(&["apply", "-auto-approve", "-input=false", "-no-color"])?;
    eventually("the tunnel is used", || Ok(ready.exists()))?;
    // The first by name is the one that it goes through. It says nothing any more, not even that it is gone.
    lab.power_off("a1")?;
    std::fs::write(&gone, "")?;
    running.wait()?.ok()?;
    let found = ctl(&lab, "b1", "get --prefix --keys-only after/")?;
    ensure!(
        found.lines().filter(|line| line.starts_with("after/")).count() == 30,
        "{found}"
    );

    // Without a quorum a plan goes on: it may be the one that is to help.
    lab.exec("b1", "systemctl stop etcd-main.service")?.ok()?;
    let planned = terraform.run(&["plan", "-input=false", "-no-color", "-var=revision=2"])?;
    let words = planned.clone().ok()?;
    ensure!(
        words.contains("There is nobody to tunnel to now"),
        "{words}{}",
        planned.stderr
    );
    Ok(())
}

#[test]
fn a_socket_is_for_the_user_who_runs_terraform() -> Result<()> {
    let lab = Builder::standard(&prefix("tunnel-socket")).only(&["a1"]).up()?;
    let terraform = Terraform::new(&lab, "1.15")?;
    let program = |version: &str| {
        cache_folder()
            .join("etcd")
            .join(version)
            .join("etcdctl")
            .display()
            .to_string()
    };
    let seen = terraform.work().join("seen");
    // Every client that checks a certificate at a socket, and another user who tries to get there.
    let words = format!(
        "for etcdctl in {clients}; do $etcdctl --endpoints=\"$ENDPOINT\" --cacert=ca.pem --cert=cert.pem --key=key.pem put $etcdctl yes; done; \
         echo \"$ENDPOINT\" >{seen}; test -S \"$ADDRESS\"; stat -c %a \"$(dirname \"$ADDRESS\")\" >>{seen}; \
         if runuser -u nobody -- ls \"$ADDRESS\" 2>/dev/null; then exit 1; fi",
        clients = ["3.5.30", "3.6.16", "3.7.3"].map(program).join(" "),
        seen = seen.display()
    );
    let configuration = Configuration::new(&lab, &["a1"], "3.6.16")?;
    let other =
        user(&program("3.6.16"), &words).replacen("  depends_on = ", "  unix_socket = true\n  depends_on = ", 1);
    terraform.configure(&(configuration.render() + &other))?;
    terraform.apply()?;
    let found = ctl(&lab, "a1", "get --prefix --keys-only /")?;
    ensure!(found.matches("etcdctl").count() == 3, "{found}");
    let told = std::fs::read_to_string(&seen)?;
    let (endpoint, mode) = told.trim().split_once('\n').context("two lines")?;
    let path = endpoint.strip_prefix("unix://").context("a socket's endpoint")?;
    ensure!(
        path.starts_with('/') && path.ends_with("/localhost") && mode == "700",
        "{told}"
    );
    let folder = std::path::Path::new(path).parent().context("a folder")?;
    ensure!(!folder.exists(), "{} is still there", folder.display());
    Ok(())
}

#[test]
fn a_port_to_a_cluster_without_tls_is_warned_about() -> Result<()> {
    let lab = Builder::standard(&prefix("tunnel-plain")).only(&["a1"]).up()?;
    let terraform = Terraform::new(&lab, "1.11")?;
    let etcdctl = cache_folder().join("etcd/3.6.16/etcdctl").display().to_string();
    let configuration = Configuration::new(&lab, &["a1"], "3.6.16")?.cluster("tls", "{ enabled = false }");
    let user = |socket: bool| {
        format!(
            r#"
ephemeral "etcd_tunnel" "main" {{
  cluster     = etcd_cluster.main
  unix_socket = {socket}
  depends_on  = [etcd_member.this]
}}
resource "terraform_data" "other" {{
  triggers_replace = {socket}
  provisioner "local-exec" {{
    environment = {{ ENDPOINT = ephemeral.etcd_tunnel.main.endpoint }}
    command     = "ETCDCTL_API=3 {etcdctl} --endpoints=$ENDPOINT put plain/{socket} yes"
  }}
}}
"#
        )
    };
    terraform.configure(&(configuration.render() + &user(false)))?;
    let words = "The tunnel is open to every local user";
    let said = terraform.apply()?;
    ensure!(said.contains(words) && said.contains("unix_socket = true"), "{said}");
    terraform.write("main.tf", &(configuration.render() + &user(true)))?;
    let said = terraform.apply()?;
    ensure!(!said.contains(words), "{said}");
    let found = ctl(&lab, "a1", "get --prefix --keys-only plain/")?;
    ensure!(found.contains("plain/false") && found.contains("plain/true"), "{found}");
    Ok(())
}

const STORED: &str = r#"
variable "before" { default = "1h" }
resource "etcd_client_certificate" "backup" {
  cluster      = etcd_cluster.main
  common_name  = "backup"
  lifetime     = "48h"
  renew_before = var.before
}
"#;

#[test]
fn a_certificate_of_the_state_is_issued_anew_in_time() -> Result<()> {
    let lab = Builder::standard(&prefix("client-certificate")).only(&["a1"]).up()?;
    for version in ["1.11", "1.15"] {
        let terraform = Terraform::new(&lab, version)?;
        let configuration = Configuration::new(&lab, &["a1"], "3.5.30")?;
        terraform.configure(&(configuration.render() + STORED))?;
        terraform.apply()?;
        let issued = || terraform.attributes("etcd_client_certificate.backup");
        let first = issued()?;
        // It opens the door.
        for (name, file) in [("certificate_pem", "crt"), ("private_key_pem", "key"), ("ca_pem", "ca")] {
            let text = first[name].as_str().context("no text")?;
            lab.write_file("a1", &format!("/root/client.{file}"), text.as_bytes())?;
        }
        let ask = "/opt/etcd/3.5.30/etcdctl --endpoints=https://127.0.0.1:2379 --cacert=/root/client.ca \
                   --cert=/root/client.crt --key=/root/client.key endpoint health";
        lab.exec("a1", ask)?.ok()?;
        terraform.nothing_to_do()?;
        let renewed = [
            "apply",
            "-auto-approve",
            "-input=false",
            "-no-color",
            "-var=before=47h59m59s",
        ];
        terraform.run(&renewed)?.ok()?;
        let second = issued()?;
        ensure!(
            first["certificate_pem"] != second["certificate_pem"],
            "it was not issued anew"
        );
        // The keys of the authorities are in the cluster's state alone.
        let cluster = second["cluster"].to_string();
        ensure!(!cluster.contains("PRIVATE KEY"), "an authority's key is in its state");
        terraform.destroy()?;
    }
    Ok(())
}
