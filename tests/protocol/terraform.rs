//! Real Terraform (if it is on the PATH) against the made-up provider, which it reattaches to.

use std::path::Path;
use std::process::Output;
use std::sync::Arc;

use terraform_provider_etcd::plugin::handshake::Listen;
use terraform_provider_etcd::plugin::listener::Listener;
use terraform_provider_etcd::plugin::server;
use terraform_provider_etcd::plugin::service::Service;
use terraform_provider_etcd::provider::provider;
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

use crate::things::Things;

const SOURCE: &str = "example/things";

/// A folder with a configuration, and the provider running beside it.
struct Workspace {
    folder: tempfile::TempDir,
    reattach: String,
    _ending: tokio_util::sync::DropGuard,
}

impl Workspace {
    /// `None` where there is no Terraform.
    async fn new() -> Option<Self> {
        Self::of(SOURCE, Service::new(Arc::new(Things::new()))).await
    }

    /// The same with another provider.
    async fn of(source: &str, service: Service) -> Option<Self> {
        let there = Command::new("terraform").arg("-version").output().await.is_ok();
        if !there {
            eprintln!("skipped: no terraform on the PATH");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let listen = Listen::Unix {
            directory: Some(folder.path().into()),
            group: None,
        };
        let listener = Listener::bind(&listen).await.unwrap();
        let reattach = listener.address().reattach(source, std::process::id());
        let ending = CancellationToken::new();
        tokio::spawn(server::run(service, listener.connections(None), ending.clone()));
        Some(Self {
            folder,
            reattach,
            _ending: ending.drop_guard(),
        })
    }

    fn write(&self, resource: &str) {
        let head = format!("terraform {{\n required_providers {{ things = {{ source = {SOURCE:?} }} }}\n}}\n");
        std::fs::write(self.folder.path().join("main.tf"), head + resource).unwrap();
    }

    async fn terraform(&self, arguments: &[&str]) -> Output {
        Command::new("terraform")
            .args(arguments)
            .current_dir(self.folder.path())
            .env("TF_REATTACH_PROVIDERS", &self.reattach)
            .env("TF_CLI_CONFIG_FILE", Path::new("/dev/null"))
            .env("TF_IN_AUTOMATION", "1")
            .env("CHECKPOINT_DISABLE", "1")
            .output()
            .await
            .unwrap()
    }

    async fn apply(&self) -> String {
        text(
            &self
                .terraform(&["apply", "-auto-approve", "-no-color", "-input=false"])
                .await,
        )
    }

    fn state(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("terraform.tfstate")).unwrap()
    }
}

fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn terraform_makes_changes_and_destroys() {
    let Some(workspace) = Workspace::new().await else {
        return;
    };
    let resource = |size: &str| {
        format!(
            r#"
            variable "name" {{ default = "one" }}
            resource "things_thing" "this" {{
              name     = var.name
              {size}
              secret   = "hush-hush"
              labels   = {{ a = "b" }}
              settings = {{ token = "hush-hush" }}
              ports    = [{{ number = 80 }}, {{ number = 81.5, open = false }}]
              servers  = {{ a1 = {{ address = "10.0.0.1" }}, b1 = {{ address = "10.0.0.2" }} }}
              tags     = [{{ key = "x" }}, {{ key = "y", value = "0" }}]
            }}
            output "half" {{ value = provider::things::half(8) }}
            "#
        )
    };
    workspace.write(&resource(""));
    let applied = workspace.apply().await;
    assert!(applied.contains("1 added, 0 changed, 0 destroyed"), "{applied}");
    assert!(applied.contains("half = 4"), "{applied}");
    assert!(!workspace.state().contains("hush-hush"));

    let again = workspace.terraform(&["plan", "-detailed-exitcode", "-no-color"]).await;
    assert_eq!(again.status.code(), Some(0), "{}", text(&again));

    workspace.write(&resource("size = 0.1"));
    let changed = workspace.apply().await;
    assert!(changed.contains("0 added, 1 changed, 0 destroyed"), "{changed}");
    let again = workspace.terraform(&["plan", "-detailed-exitcode", "-no-color"]).await;
    assert_eq!(again.status.code(), Some(0), "{}", text(&again));

    let replaced = text(
        &workspace
            .terraform(&["apply", "-auto-approve", "-no-color", "-var=name=two"])
            .await,
    );
    assert!(replaced.contains("1 added, 0 changed, 1 destroyed"), "{replaced}");

    let destroyed = text(
        &workspace
            .terraform(&["destroy", "-auto-approve", "-no-color", "-var=name=two"])
            .await,
    );
    assert!(destroyed.contains("1 destroyed"), "{destroyed}");
    assert!(destroyed.contains("It will be gone"), "{destroyed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn terraform_shows_errors_where_they_belong() {
    let Some(workspace) = Workspace::new().await else {
        return;
    };
    workspace.write("resource \"things_thing\" \"this\" {\n name = \"half\"\n}\n");
    let applied = workspace.apply().await;
    assert!(applied.contains("Only half made"), "{applied}");
    assert!(applied.contains("name = \"half\""), "the line is shown: {applied}");
    assert!(workspace.state().contains("half-made"), "what was reached is kept");

    workspace.write("resource \"things_thing\" \"other\" {\n name = \"panic\"\n}\n");
    let applied = workspace.apply().await;
    assert!(applied.contains("the provider failed inside itself"), "{applied}");

    workspace.write("output \"half\" {\n value = provider::things::half(7)\n}\n");
    let applied = workspace.apply().await;
    assert!(applied.contains("it must be even"), "{applied}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_servers_say_is_text_on_a_terminal() {
    let Some(workspace) = Workspace::new().await else {
        return;
    };
    workspace.write("resource \"things_thing\" \"this\" {\n name = \"liar\"\n}\n");
    let applied = workspace.apply().await;
    let shown = text(&workspace.terraform(&["show", "-no-color"]).await);
    for seen in [&applied, &shown] {
        let acts = |character: char| matches!(character, '\u{0}'..='\u{8}' | '\u{b}'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{200b}' | '\u{202e}');
        assert!(!seen.contains(acts), "{seen:?}");
        assert!(seen.contains("[2K") && seen.contains("desrever"), "{seen:?}");
    }
    let complete = applied.lines().filter(|line| line.starts_with("Apply complete!"));
    assert_eq!(
        complete.collect::<Vec<_>>(),
        ["Apply complete! Resources: 1 added, 0 changed, 0 destroyed."],
        "{applied}"
    );
    assert!(!applied.lines().any(|line| line.starts_with("Error:")), "{applied}");
}

#[tokio::test(flavor = "multi_thread")]
async fn terraform_imports() {
    let Some(workspace) = Workspace::new().await else {
        return;
    };
    workspace.write(
        "import {\n to = things_thing.this\n id = \"one\"\n}\nresource \"things_thing\" \"this\" {\n name = \"one\"\n}\n",
    );
    let applied = workspace.apply().await;
    assert!(applied.contains("1 imported"), "{applied}");
}

/// The lines of a plan that forms a cluster of so many servers: of its members, and of all.
async fn lines(servers: usize) -> Option<(usize, usize)> {
    let source = "example/etcd";
    let workspace = Workspace::of(source, Service::new(Arc::new(provider()))).await?;
    let text = format!(
        r#"
        terraform {{
          required_providers {{ etcd = {{ source = {source:?} }} }}
        }}
        resource "etcd_server" "this" {{
          for_each        = toset([for i in range({servers}) : "s${{i}}"])
          name            = each.key
          network         = "n-${{each.key}}"
          private_address = "10.0.0.1"
          public_address  = "203.0.113.${{trimprefix(each.key, "s")}}"
        }}
        resource "etcd_cluster" "main" {{
          name    = "main"
          servers = etcd_server.this
        }}
        resource "etcd_member" "this" {{
          for_each = etcd_server.this
          cluster  = etcd_cluster.main
          server   = each.key
          version  = "v3.6.14"
        }}
        "#
    );
    std::fs::write(workspace.folder.path().join("main.tf"), text).unwrap();
    let plan = text_of_plan(&workspace.terraform(&["plan", "-no-color", "-input=false"]).await);
    let members = plan.split("\n  # ").filter(|block| block.starts_with("etcd_member."));
    let members: Vec<usize> = members
        .map(|block| block.split("\n    }\n").next().unwrap_or_default().lines().count())
        .collect();
    assert_eq!(members.len(), servers, "{plan}");
    Some((members.iter().sum(), plan.lines().count()))
}

fn text_of_plan(output: &Output) -> String {
    assert!(output.status.success(), "{}", text(output));
    text(output)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_grows_with_the_number_of_servers() {
    let mut of_members = Vec::new();
    let mut of_all = Vec::new();
    for servers in [3, 5, 7] {
        let Some((members, all)) = lines(servers).await else {
            return;
        };
        of_members.push(members / servers);
        of_all.push(all);
    }
    eprintln!("lines of a member: {of_members:?}, of the plan: {of_all:?}");
    assert!(
        of_members.iter().all(|lines| *lines == of_members[0] && *lines < 30),
        "{of_members:?}"
    );
    // But for the addresses by which each server dials each other one, which are in the cluster once.
    let straight: Vec<usize> = of_all.iter().zip([9, 25, 49]).map(|(all, pairs)| all - pairs).collect();
    assert_eq!(straight[1] - straight[0], straight[2] - straight[1], "{of_all:?}");
}
