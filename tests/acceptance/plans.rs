//! What plans show, and that what they don't show is not lost: between runs, between versions of the provider, between processes.

use std::fs;

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use etcd_lab::Builder;
use serde_json::Value;

use crate::configuration::{Configuration, quoted};
use crate::outside::{leftovers, one_cluster};
use crate::prefix;
use crate::terraform::{OPENTOFU, Terraform};

const HOSTS: [&str; 3] = ["a1", "a2", "b1"];

/// What else takes the cluster's object.
const OTHERS: &str = r#"
resource "etcd_role" "reader" {
  cluster     = etcd_cluster.main
  name        = "reader"
  permissions = [{ access = "read", key = "a" }]
  depends_on  = [etcd_member.this]
}
resource "etcd_client_certificate" "reader" {
  cluster     = etcd_cluster.main
  common_name = "reader"
}
"#;

/// Changes each resource in the state file that remembers its cluster.
fn rewrite(terraform: &Terraform<'_>, change: impl Fn(&mut Value) -> Result<()>) -> Result<()> {
    let file = terraform.work().join("terraform.tfstate");
    let mut state: Value = serde_json::from_str(&fs::read_to_string(&file)?)?;
    let mut changed = 0;
    for resource in state["resources"].as_array_mut().context("no resources")? {
        for instance in resource["instances"].as_array_mut().context("no instances")? {
            if instance["attributes"].get("cluster_revision").is_some() {
                change(instance)?;
                changed += 1;
            }
        }
    }
    ensure!(changed == 5, "{changed} resources remember their cluster");
    state["serial"] = (state["serial"].as_u64().unwrap_or_default() + 1).into();
    Ok(fs::write(file, serde_json::to_vec(&state)?)?)
}

/// The state as the provider wrote it before it kept the cluster in private state.
fn as_it_was(instance: &mut Value) -> Result<()> {
    let private = STANDARD.decode(instance["private"].as_str().unwrap_or_default())?;
    let private = String::from_utf8(private)?;
    let rest = private.strip_prefix("remembered=").context("nothing is remembered")?;
    let (kept, own) = rest.split_once('\n').context("no end")?;
    let kept: Value = serde_json::from_slice(&STANDARD.decode(kept)?)?;
    ensure!(
        !kept.to_string().contains("PRIVATE KEY"),
        "a private key is kept in {}",
        instance["private"]
    );
    instance["private"] = STANDARD.encode(own).into();
    let attributes = instance["attributes"].as_object_mut().context("no attributes")?;
    attributes.insert("cluster".into(), kept["cluster"].clone());
    attributes.remove("cluster_revision");
    attributes.remove("cluster_carried_over");
    Ok(())
}

/// The lines of a plan that say something new about each member.
fn news(plan: &str) -> Vec<Vec<&str>> {
    let blocks = plan.split("\n  # ").filter(|block| block.starts_with("etcd_member."));
    let is_news = |line: &&str| {
        let line = line.trim();
        let marked = ["+ ", "- ", "~ "].iter().any(|mark| line.starts_with(mark));
        let opens = line.ends_with('{') || line.ends_with('[') || line.ends_with("<<-EOT");
        // OpenTofu 1.11 has a line for each attribute that it does not store.
        marked && !opens && !line.ends_with("(write-only attribute)")
    };
    blocks
        .map(|block| {
            let block = block.split("\n    }\n").next().unwrap_or_default();
            block.lines().filter(is_news).collect()
        })
        .collect()
}

fn at_most_three(plan: &str) -> Result<()> {
    let news = news(plan);
    ensure!(news.len() == HOSTS.len(), "{} members in\n{plan}", news.len());
    ensure!(news.iter().all(|lines| (1..=3).contains(&lines.len())), "{news:#?}");
    Ok(())
}

fn unchanged(terraform: &Terraform<'_>, arguments: &[&str]) -> Result<()> {
    let mut all = vec!["plan", "-detailed-exitcode", "-input=false", "-no-color"];
    all.extend(arguments);
    let output = terraform.run(&all)?;
    ensure!(
        output.code == 0,
        "{all:?}: {}\n{}{}",
        output.code,
        output.stdout,
        output.stderr
    );
    Ok(())
}

fn goes_on(name: &str, version: &str) -> Result<()> {
    let lab = Builder::standard(&prefix(name)).only(&HOSTS).up()?;
    let terraform = Terraform::new(&lab, version)?;
    let first = Configuration::new(&lab, &HOSTS, "3.6.16")?;
    let text = |configuration: &Configuration| configuration.render() + OTHERS;
    let former = std::env::var("ACCEPTANCE_FORMER").ok();
    if let Some(former) = &former {
        terraform.use_provider(former)?;
    }
    terraform.configure(&text(&first))?;
    terraform.apply()?;
    one_cluster(&lab, &HOSTS)?;
    if former.is_some() {
        terraform.use_provider(crate::terraform::PROVIDER)?;
        terraform.configure(&text(&first))?;
    } else {
        let member = terraform.attributes("etcd_member.this[\"a1\"]")?;
        ensure!(member["cluster"].is_null(), "{member}");
        let revision = member["cluster_revision"].as_str().unwrap_or_default();
        ensure!(revision.starts_with("main, 3 servers, "), "{member}");
        unchanged(&terraform, &[])?;
        rewrite(&terraform, as_it_was)?;
    }
    // What the state of the version before had comes over, whatever is done first.
    unchanged(&terraform, &[])?;
    if former.is_none() {
        // A state that never had the new attribute, which is sensitive, gets an update without a change here: Terraform notes that.
        unchanged(&terraform, &["-refresh=false"])?;
    }
    terraform.run(&["apply", "-auto-approve", "-refresh=false"])?.ok()?;
    unchanged(&terraform, &["-refresh=false"])?;
    unchanged(&terraform, &[])?;

    // One option; the plan is applied by another process.
    let other = first.clone().member("config", "{ \"snapshot-count\" = \"5000\" }");
    terraform.write("main.tf", &text(&other))?;
    let plan = terraform
        .run(&["plan", "-out=saved", "-input=false", "-no-color"])?
        .ok()?;
    eprintln!(
        "{} lines to change an option of {} members",
        plan.lines().count(),
        HOSTS.len()
    );
    at_most_three(&plan)?;
    terraform.run(&["apply", "-input=false", "saved"])?.ok()?;
    one_cluster(&lab, &HOSTS)?;
    unchanged(&terraform, &[])?;
    rewrite(&terraform, |instance| {
        let attributes = &instance["attributes"];
        ensure!(
            attributes["cluster"].is_null() && attributes["cluster_carried_over"].is_null(),
            "{attributes}"
        );
        Ok(())
    })?;

    // One option of the cluster, which all members have to follow.
    let slower = other
        .clone()
        .cluster("heartbeat_interval", "150")
        .cluster("election_timeout", "1500");
    terraform.write("main.tf", &text(&slower))?;
    let plan = terraform.run(&["plan", "-input=false", "-no-color"])?.ok()?;
    ensure!(plan.contains("~ cluster_revision"), "{plan}");
    ensure!(!plan.contains("certificate_expiry"), "nothing is issued: {plan}");

    // The same version, written otherwise, is no change; the next minor version is one that can't be undone, and one warning says so.
    let same = other.clone().member("version", quoted("v3.6.16"));
    terraform.write("main.tf", &text(&same))?;
    unchanged(&terraform, &[])?;
    let next = other.clone().member("version", quoted("3.7.3"));
    terraform.write("main.tf", &text(&next))?;
    let plan = terraform.run(&["plan", "-input=false", "-no-color"])?.ok()?;
    let warnings = plan.matches("there is no way back from etcd 3.7 to 3.6").count();
    ensure!(
        warnings == 1 && !plan.contains("similar warning"),
        "{warnings} warnings: {plan}"
    );
    terraform.write("main.tf", &text(&other))?;

    // What was lost outside of Terraform comes from the configuration again; a destroy has none.
    rewrite(&terraform, |instance| {
        instance["private"] = "".into();
        Ok(())
    })?;
    let refused = terraform.run(&[
        "destroy",
        "-auto-approve",
        "-input=false",
        "-no-color",
        "-refresh=false",
    ])?;
    ensure!(
        !refused.success() && refused.stderr.contains("the state lacks cluster"),
        "{}",
        refused.stderr
    );
    one_cluster(&lab, &HOSTS)?;
    terraform.apply()?;
    one_cluster(&lab, &HOSTS)?;
    unchanged(&terraform, &[])?;

    rewrite(&terraform, as_it_was)?;
    terraform
        .run(&[
            "destroy",
            "-auto-approve",
            "-input=false",
            "-no-color",
            "-refresh=false",
        ])?
        .ok()?;
    for host in HOSTS {
        let left = leftovers(&lab, host)?;
        ensure!(left.is_empty(), "left on {host}: {left}");
    }
    Ok(())
}

#[test]
fn what_a_plan_leaves_out_is_kept() -> Result<()> {
    goes_on("kept", "1.15")
}

#[test]
fn what_a_plan_of_opentofu_leaves_out_is_kept() -> Result<()> {
    goes_on("kepto", OPENTOFU)
}
