//! Three servers at three sites, two of them with the same private address: reboot, flush, a changed address, and no trace at the end.

use super::*;
use crate::complaint::Complaint;

const HOSTS: [&str; 3] = ["a1", "b1", "c1"];

#[test]
fn servers_with_the_same_address_are_one_cluster_through_thick_and_thin() -> Result<()> {
    let lab = lab("k3s", &HOSTS)?;
    let before = Fingerprint::take(&lab)?;
    let terraform = Terraform::new(&lab, "1.15")?;
    let local = program();
    let mut k3s = K3s::new(&lab, &HOSTS)?.server(
        "install",
        format!("{{ upload = {} }}", quoted(&local.display().to_string())),
    );
    k3s.more = kubeconfig_for_a_run(&terraform);
    let mut steps = Steps::start();

    // Who can't translate is named before anything is changed anywhere.
    terraform.configure(&k3s.render())?;
    lab.exec("c1", "mv /usr/sbin/nft /usr/sbin/nft.away")?.ok()?;
    let complaints = terraform.complaints()?;
    let words = ["Server c1 has no program nft", "Nothing was changed on any server"];
    Complaint::expect(&complaints, "etcd_k3s_cluster.main", "servers", &words)?;
    ensure!(!lab.exec("a1", "test -e /etc/etcd-k3s")?.success(), "a1 was changed");
    lab.exec("c1", "mv /usr/sbin/nft.away /usr/sbin/nft")?.ok()?;
    steps.done("one without nft is refused");

    terraform.apply()?;
    steps.done("three servers");
    terraform.nothing_to_do()?;
    let leads = std::fs::read_to_string(terraform.work().join("kubeconfig"))?;
    ensure!(
        leads.contains("https://203.0.113.30:6443"),
        "the kubeconfig of the run leads elsewhere"
    );

    // Who has no address of its own has a virtual one, and nobody dials another member's by itself.
    let all = one_cluster(&lab, &HOSTS)?;
    ensure!(
        all == BTreeMap::from([
            ("a1".to_owned(), "100.64.77.1".to_owned()),
            ("b1".to_owned(), "100.64.77.2".to_owned()),
            ("c1".to_owned(), "192.168.7.31".to_owned())
        ]),
        "{all:?}"
    );
    for host in HOSTS {
        let others: BTreeSet<String> = { all.iter() }
            .filter(|(name, _)| *name != host)
            .map(|(_, address)| address.clone())
            .collect();
        eventually("everybody dials everybody", || {
            Ok(reached(&lab, host)?.is_superset(&others))
        })?;
    }
    secrets_stay_where_they_are(&lab, &terraform)?;

    // A reboot: address and rules are there before k3s is.
    if let Err(slow) = lab.reboot("b1") {
        // A boot ends when k3s is ready, which takes the real one longer than the lab waits.
        ensure!(real().is_some(), "{slow:#}");
    }
    becomes_one_cluster(&lab, &HOSTS)?;
    terraform.nothing_to_do().context("after a reboot")?;
    steps.done("one rebooted");

    // Somebody flushes all rules: they come back without Terraform.
    lab.exec("a1", "nft flush ruleset")?.ok()?;
    eventually("the rules are back", || {
        Ok(lab.exec("a1", "nft list table ip etcd_k3s_main")?.success())
    })?;
    becomes_one_cluster(&lab, &HOSTS)?;
    // A rule of somebody else's is left alone.
    lab.exec("a1", "nft add table ip theirs && nft delete table ip etcd_k3s_main && systemctl reload etcd-k3s-main && nft list table ip theirs")?
        .ok()?;

    // What somebody changed by hand shows, and is mended.
    lab.exec(
        "c1",
        "systemctl stop etcd-k3s-main-check.timer; rm /etc/etcd-k3s/main/rules.nft; nft delete table ip etcd_k3s_main",
    )?
    .ok()?;
    ensure!(
        terraform.nothing_to_do().is_err(),
        "rules that are gone make no difference"
    );
    terraform.apply()?;
    terraform.nothing_to_do()?;
    becomes_one_cluster(&lab, &HOSTS)?;
    steps.done("rules flushed, and taken away");

    // Another public address: the others dial it, no member becomes another one, and what is connected elsewhere stays so.
    let watch = Watch::start(&lab, "a1", "c1", &all["c1"])?;
    let new = std::net::Ipv4Addr::new(203, 0, 113, 77);
    let mut changed = Lab::attach(lab.prefix())?;
    changed.set_public("b1", new)?;
    changed.trust("b1")?;
    let mut moved = k3s.clone();
    moved.base = moved.base.server("b1", "public_address", quoted(&new.to_string()));
    terraform.write("main.tf", &moved.render())?;
    terraform.apply()?;
    terraform.nothing_to_do()?;
    becomes_one_cluster(&lab, &HOSTS)?;
    ensure!(
        voters(&lab, "a1")? == all,
        "somebody is another member: {:?}",
        voters(&lab, "a1")?
    );
    ensure!(
        lab.read_file("a1", "/etc/etcd-k3s/main/rules.nft")?
            .contains("dnat to 203.0.113.77")
    );
    watch.goes_on()?;
    watch.stop()?;
    steps.done("another public address");

    terraform.destroy()?;
    steps.done("destroyed");
    lab.exec("a1", "nft delete table ip theirs")?.ok()?;
    for host in HOSTS {
        let left = leftovers(&lab, host)?;
        ensure!(left.is_empty(), "{host} has {left}");
    }
    before.unchanged(&lab)
}

/// The kubeconfig as an ephemeral resource, which a provisioner puts into a file.
fn kubeconfig_for_a_run(terraform: &Terraform) -> String {
    format!(
        r#"
ephemeral "etcd_k3s_kubeconfig" "main" {{
  cluster = etcd_k3s_cluster.main
  server  = etcd_k3s_server.this["c1"].id
}}
resource "terraform_data" "kubectl" {{
  provisioner "local-exec" {{
    environment = {{ KUBECONFIG_TEXT = ephemeral.etcd_k3s_kubeconfig.main.kubeconfig }}
    command     = "printf %s \"$KUBECONFIG_TEXT\" >{}"
  }}
}}
"#,
        terraform.work().join("kubeconfig").display()
    )
}

/// A connection of our own through the rules: a client on one host that watches a key at another one's member. (etcd's connections won't do:
/// it ends and opens them as it likes.)
struct Watch<'a> {
    lab: &'a Lab,
    from: &'a str,
    to: &'a str,
    address: &'a str,
    ends: BTreeSet<String>,
}

impl<'a> Watch<'a> {
    const UNIT: &'static str = "watching";

    fn start(lab: &'a Lab, from: &'a str, to: &'a str, address: &'a str) -> Result<Self> {
        let etcdctl = etcdctl(address);
        let command = format!("{etcdctl} --keepalive-timeout=1m watch watched");
        let output = format!("-p StandardOutput=file:/run/{}", Self::UNIT);
        lab.exec(
            from,
            &format!("systemd-run -q --unit={} {output} {command}", Self::UNIT),
        )?
        .ok()?;
        let mut watch = Self {
            lab,
            from,
            to,
            address,
            ends: BTreeSet::new(),
        };
        // Written again and again: when the watch begins nobody says.
        eventually("the watch sees a key change", || watch.sees("begins"))?;
        watch.ends = watch.ends()?;
        ensure!(watch.ends.len() == 1, "{:?}", watch.ends);
        Ok(watch)
    }

    /// Whether it sees what is written at the other end.
    fn sees(&self, value: &str) -> Result<bool> {
        ctl(self.lab, self.to, &format!("put watched {value}"))?;
        let seen = self.lab.read_file(self.from, &format!("/run/{}", Self::UNIT))?;
        Ok(seen.lines().any(|line| line == value))
    }

    /// Its own ends of its connections.
    fn ends(&self) -> Result<BTreeSet<String>> {
        let command = format!("ss -Htnp state established dst {} dport = :2379", self.address);
        let text = self.lab.exec(self.from, &command)?.ok()?;
        let own = text.lines().filter(|line| line.contains("\"etcdctl\""));
        Ok(own
            .filter_map(|line| line.split_whitespace().nth(2))
            .map(str::to_owned)
            .collect())
    }

    fn goes_on(&self) -> Result<()> {
        eventually("the watch sees it still", || self.sees("goes-on"))?;
        let now = self.ends()?;
        ensure!(
            now == self.ends,
            "new rules cut what was connected: {:?} and {now:?}",
            self.ends
        );
        Ok(())
    }

    fn stop(self) -> Result<()> {
        let script = format!("systemctl stop {0}; rm -f /run/{0}", Self::UNIT);
        self.lab.exec(self.from, &script)?.ok().map(drop)
    }
}

/// The token is in one place of the state, which is marked, and in no argument list.
fn secrets_stay_where_they_are(lab: &Lab, terraform: &Terraform) -> Result<()> {
    let token = terraform.attributes("etcd_k3s_cluster.main")?["token"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    ensure!(token.len() == 32, "{token:?} is no token");
    let server = terraform.attributes("etcd_k3s_server.this[\"b1\"]")?;
    ensure!(
        server["cluster"]["token"].is_null(),
        "the token is in the server's state"
    );
    let kubeconfig = server["kubeconfig"].as_str().unwrap_or_default();
    ensure!(
        kubeconfig.contains("https://203.0.113.21:6443"),
        "the kubeconfig leads elsewhere"
    );
    let join = server["join_token"].as_str().unwrap_or_default();
    ensure!(join.starts_with("K10") && join.ends_with(&token), "no token for agents");
    ensure!(server["url"] == "https://203.0.113.21:6443", "{}", server["url"]);
    for host in HOSTS {
        let arguments = lab
            .exec(host, "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '")?
            .stdout;
        ensure!(!arguments.contains(&token), "{host} has the token in an argument list");
        let mode = lab
            .exec(
                host,
                "stat -c %a /etc/rancher/k3s/etcd-k3s.token /etc/rancher/k3s/config.yaml.d/50-etcd-k3s.yaml",
            )?
            .ok()?;
        ensure!(mode.trim() == "600\n600", "{host}: {mode}");
        let options = lab.read_file(host, "/etc/rancher/k3s/config.yaml.d/50-etcd-k3s.yaml")?;
        ensure!(
            !options.contains(&token) && !options.contains("cluster-init"),
            "{host}: {options}"
        );
    }
    Ok(())
}
