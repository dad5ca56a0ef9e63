//! The guide on disaster recovery, word by word: its blocks are taken out of the text and run as a reader would, with names of servers and
//! of files for what the guide says is the reader's own.

use std::collections::VecDeque;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use etcd_lab::{Builder, Lab};

use crate::configuration::Configuration;
use crate::lost_quorum::FORGET;
use crate::outside::{ctl, eventually, one_cluster};
use crate::prefix;
use crate::terraform::Terraform;

const GUIDE: &str = "docs/guides/disaster-recovery.md";
const ETCD: &str = "3.6.16";

/// The blocks of code under one heading, in their order, with their languages.
struct Section {
    heading: &'static str,
    blocks: VecDeque<(String, String)>,
}

impl Section {
    fn of(heading: &'static str) -> Result<Self> {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(GUIDE))?;
        let start = format!("\n## {heading}\n");
        let (_, text) = text.split_once(&start).with_context(|| format!("no {heading:?}"))?;
        let text = text.split("\n## ").next().unwrap_or(text);
        let mut blocks = VecDeque::new();
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            if let Some(language) = line.strip_prefix("```") {
                let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
                blocks.push_back((language.to_owned(), block.join("\n") + "\n"));
            }
        }
        Ok(Self { heading, blocks })
    }

    fn next(&mut self, language: &str) -> Result<String> {
        match self.blocks.pop_front() {
            Some((found, block)) if found == language => Ok(block),
            other => bail!("{}: {other:?}, and not a block of {language}", self.heading),
        }
    }

    /// Nothing of the section was left out.
    fn ends(self) -> Result<()> {
        ensure!(self.blocks.is_empty(), "{}: {:?}", self.heading, self.blocks);
        Ok(())
    }
}

/// A reader at night, with a cluster that is described as the README does.
struct Reader<'a> {
    lab: &'a Lab,
    terraform: Terraform<'a>,
}

impl<'a> Reader<'a> {
    fn new(lab: &'a Lab) -> Result<Self> {
        let mut terraform = Terraform::new(lab, "1.15")?;
        // What a reader answers to the questions.
        terraform.set_environment("TF_CLI_ARGS_apply", "-auto-approve -no-color");
        terraform.set_environment("TF_CLI_ARGS_destroy", "-auto-approve -no-color");
        terraform.set_environment("TF_CLI_ARGS_plan", "-no-color");
        let rendered = Configuration::new(lab, &[], ETCD)?.only_servers().render();
        let servers = format!(
            r#"
resource "etcd_server" "this" {{
  for_each        = local.servers
  name            = each.key
  network         = each.value.network
  private_address = each.value.private
  public_address  = each.value.public
}}
resource "etcd_member" "this" {{
  for_each = local.servers
  cluster  = etcd_cluster.main
  server   = each.key
  version  = "{ETCD}"
  binary   = {{ host_path = "/opt/etcd/{ETCD}" }}
}}
"#
        );
        terraform.write("servers.tf", &servers)?;
        terraform.configure(&rendered)?;
        Ok(Self { lab, terraform })
    }

    fn servers(&self, hosts: &[&str]) -> Result<String> {
        let servers = hosts.iter().map(|host| {
            let (private, site) = (self.lab.private_address(host)?, self.lab.spec().site_of(host)?);
            let public = self.lab.public_address(host)?.context("no public address")?;
            Ok(format!(
                "    {host} = {{ network = \"{site}\", private = \"{private}\", public = \"{public}\" }}\n"
            ))
        });
        let servers: String = servers.collect::<Result<_>>()?;
        Ok(format!("locals {{\n  servers = {{\n{servers}  }}\n}}\n"))
    }

    fn write_cluster(&self, text: &str) -> Result<()> {
        self.terraform.write("cluster.tf", text)
    }

    /// Runs a block of shell where Terraform is.
    fn types(&self, block: &str) -> Result<String> {
        self.terraform.shell(block)?.ok().with_context(|| block.to_owned())
    }

    /// Runs it on a server, as the user who comes in over SSH does.
    fn types_on(&self, host: &str, block: &str) -> Result<String> {
        let script = format!("su admin -c {}", shell_quoted(block));
        self.lab.exec(host, &script)?.ok().with_context(|| block.to_owned())
    }

    fn whole_with(&self, hosts: &[&str], key: &str, value: &str) -> Result<u64> {
        for host in hosts {
            let found = ctl(self.lab, host, &format!("get --print-value-only {key}"))?;
            ensure!(found.trim() == value, "{key} is {found:?} on {host}");
        }
        self.terraform.nothing_to_do()?;
        one_cluster(self.lab, hosts)
    }

    /// The newest file that `ls -l snapshots` shows, as the guide has the reader look.
    fn snapshot(&self, listing: &str) -> Result<String> {
        let names = { listing.lines() }.filter_map(|line| line.split_whitespace().last());
        let name = names.filter(|name| name.ends_with(".db")).max();
        Ok(format!("snapshots/{}", name.with_context(|| listing.to_owned())?))
    }
}

fn shell_quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// The guide's example of a file is the reader's.
fn with_file(block: &str, file: &str) -> Result<String> {
    let (before, rest) = block.split_once("snapshots/").context("no file")?;
    let (_, after) = rest.split_once('"').context("no end of the file")?;
    Ok(format!("{before}{file}\"{after}"))
}

#[test]
fn a_stranger_follows_the_guide_at_night() -> Result<()> {
    let lab = Builder::standard(&prefix("guide")).up()?;
    let reader = Reader::new(&lab)?;
    let mut before = Section::of("Before it happens")?;
    reader.terraform.write("snapshots.tf", &before.next("terraform")?)?;
    // One more argument of the members: what such a file says is merged into them.
    reader
        .terraform
        .write("member_override.tf", &before.next("terraform")?)?;
    before.ends()?;
    let hosts = ["a1", "b1", "c1"];
    let plain = |hosts: &[&str]| -> Result<String> {
        let cluster = "resource \"etcd_cluster\" \"main\" {\n  name    = \"main\"\n  servers = etcd_server.this\n}\n";
        Ok(reader.servers(hosts)? + cluster)
    };
    reader.write_cluster(&plain(&hosts)?)?;
    reader.types("terraform apply")?;
    let first = one_cluster(&lab, &hosts)?;
    ctl(&lab, "a1", "put kept one")?;
    eventually("it is on all", || {
        Ok(ctl(&lab, "a1", "get --consistency=s --print-value-only kept")?.trim() == "one")
    })?;

    let mut which = Section::of("Which case is it?")?;
    reader.types(&which.next("shell")?)?;
    which.ends()?;

    // Going on from a survivor.
    let mut survivor = Section::of("Go on from a survivor")?;
    lab.power_off("b1")?;
    lab.power_off("c1")?;
    let said = reader.types_on("a1", &survivor.next("shell")?)?;
    let committed = said
        .trim()
        .rsplit(' ')
        .next()
        .and_then(|number| number.parse::<u64>().ok());
    ensure!(committed.is_some_and(|number| number > 5), "{said}");
    reader.write_cluster(&survivor.next("terraform")?)?;
    reader.types(&survivor.next("shell")?)?;
    let second = reader.whole_with(&["a1"], "kept", "one")?;
    ensure!(second != first, "the old cluster");
    ensure!(reader.types(&survivor.next("shell")?)?.contains("No changes"));
    survivor.ends()?;
    reader.write_cluster(&plain(&["a1"])?)?;
    ensure!(
        reader.types("terraform plan")?.contains("etcd_cluster.main"),
        "recovery is still there"
    );
    reader.types("terraform apply")?;
    ensure!(reader.whole_with(&["a1"], "kept", "one")? == second, "another cluster");

    // All of it is gone, and there is a snapshot.
    let new = ["a2", "b2", "c1"];
    reader.types("terraform apply -replace=etcd_snapshot.daily")?;
    lab.power_off("a1")?;
    lab.power_on("c1")?;
    lab.exec("c1", FORGET)?.ok()?;
    let mut founding = Section::of("Found a cluster from a snapshot")?;
    let file = reader.snapshot(&reader.types(&founding.next("shell")?)?)?;
    reader.types(&founding.next("shell")?)?;
    let block = with_file(&founding.next("terraform")?, &file)?;
    reader.write_cluster(&(reader.servers(&new)? + &block))?;
    reader.types(&founding.next("shell")?)?;
    founding.ends()?;
    let third = reader.whole_with(&new, "kept", "one")?;
    ensure!(third != second, "the old cluster");
    reader.write_cluster(&plain(&new)?)?;
    reader.types("terraform apply")?;
    ensure!(reader.whole_with(&new, "kept", "one")? == third, "another cluster");

    // What is in it is wrong.
    ctl(&lab, "a2", "put kept nonsense")?;
    let mut back = Section::of("Go back to a snapshot")?;
    reader.types(&back.next("shell")?)?;
    reader.types(&back.next("shell")?)?;
    reader.write_cluster(&(reader.servers(&new)? + &block))?;
    reader.types(&back.next("shell")?)?;
    back.ends()?;
    ensure!(reader.whole_with(&new, "kept", "one")? != third, "the old cluster");
    let aside = lab.exec("a2", "ls -d /var/lib/etcd/*")?.ok()?;
    ensure!(aside.lines().count() > 1, "what was wrong is gone: {aside}");
    Ok(())
}
