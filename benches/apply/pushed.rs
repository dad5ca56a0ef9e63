//! The floor: the files that the provider leaves, pushed by OpenSSH to all servers at once.

use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use etcd_lab::Lab;
use terraform_provider_etcd::host::shell;

/// What makes a server's member, as one script.
pub struct Gathered {
    /// The server.
    pub host: String,
    /// Installs and starts the member when root runs it.
    pub script: String,
}

/// Takes the members' files from servers on which the provider has formed a cluster.
pub fn gather(lab: &Lab) -> Result<Vec<Gathered>> {
    lab.hosts()
        .into_iter()
        .map(|host| gather_from(lab, host).with_context(|| format!("gathering what the provider left on {host}")))
        .collect()
}

fn gather_from(lab: &Lab, host: &str) -> Result<Gathered> {
    let text = lab.exec(host, include_str!("gather.sh"))?.ok()?;
    let [user, hosts_block, files] = text.lines().collect::<Vec<_>>()[..] else {
        bail!("not three lines: {text:.200}");
    };
    let decoded =
        |line: &str| -> Result<String> { Ok(String::from_utf8(STANDARD.decode(line)?)?.trim_end().to_owned()) };
    let (user, hosts_block) = (decoded(user)?, decoded(hosts_block)?);
    let script = format!(
        "user={}\nhosts_block={}\nfiles={files}\n{}",
        shell::quote(&user),
        shell::quote(&hosts_block),
        include_str!("install.sh")
    );
    Ok(Gathered {
        host: host.to_owned(),
        script,
    })
}

/// Runs each server's script over an SSH connection of its own, all at once. One connection a server and no copy before:
/// OpenSSH can't do with fewer round trips.
pub fn push(lab: &Lab, members: &[Gathered]) -> Result<()> {
    on_all(members, |member| {
        let mut command = lab.ssh_command("admin", &member.host)?;
        command.arg("sudo sh -s");
        checked(&member.host, with_input(&mut command, &member.script)?)
    })
}

/// Checks that every member answers as one of the same cluster, with a leader and all the others as members.
pub fn healthy(lab: &Lab, etcd: &str) -> Result<()> {
    let hosts = lab.hosts();
    let script = format!(
        "ctl() {{ /opt/etcd/{etcd}/etcdctl --endpoints=https://127.0.0.1:2379 --cacert=/etc/etcd/main/pki/client-ca.crt \
         --cert=/etc/etcd/main/pki/server.crt --key=/etc/etcd/main/pki/server.key \"$@\"; }}\n\
         export ETCDCTL_API=3\nctl endpoint health >/dev/null 2>&1 && ctl member list | sort"
    );
    let mut lists = Vec::new();
    for host in &hosts {
        let list = lab
            .exec(host, &script)?
            .ok()
            .with_context(|| format!("the member on {host} is not healthy"))?;
        if list.matches(", started,").count() != hosts.len() {
            bail!("the member on {host} has not {} started members:\n{list}", hosts.len());
        }
        lists.push(list);
    }
    lists.dedup();
    if lists.len() != 1 {
        bail!("the members don't agree who is one:\n{}", lists.join("\n\n"));
    }
    Ok(())
}

/// Makes all servers what they were.
pub fn clear(lab: &Lab) -> Result<()> {
    for host in lab.hosts() {
        lab.exec(host, include_str!("clear.sh"))?
            .ok()
            .with_context(|| format!("clearing {host}"))?;
    }
    Ok(())
}

fn on_all(members: &[Gathered], act: impl Fn(&Gathered) -> Result<()> + Sync) -> Result<()> {
    std::thread::scope(|scope| {
        let act = &act;
        let started: Vec<_> = members.iter().map(|member| scope.spawn(move || act(member))).collect();
        started
            .into_iter()
            .try_for_each(|thread| thread.join().unwrap_or_else(|_| bail!("a thread panicked")))
    })
}

fn with_input(command: &mut Command, input: &str) -> Result<Output> {
    use std::io::Write as _;
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("starting ssh")?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes()).context("writing to ssh")?;
    }
    child.wait_with_output().context("waiting for ssh")
}

fn checked(host: &str, output: Output) -> Result<()> {
    if !output.status.success() {
        let (said, complaint) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        bail!("ssh to {host}: {}\n{said}{complaint}", output.status);
    }
    Ok(())
}
