//! A run that reaches no server says so, and claims nothing of the cluster.

use anyhow::{Result, ensure};
use etcd_lab::{Builder, Lab};
use serde_json::Value;

use crate::configuration::{Configuration, quoted};
use crate::prefix;
use crate::terraform::Terraform;

const HOSTS: [&str; 3] = ["a1", "b1", "c1"];
const ETCD: &str = "3.6.16";
const STATUS: &str = "data \"etcd_cluster_status\" \"main\" {\n  cluster = etcd_cluster.main\n}\noutput \"status\" {\n  \
    value = { for name in [\"healthy\", \"has_quorum\", \"healthy_voters\"] : name => data.etcd_cluster_status.main[name] }\n}\n";

fn plan(terraform: &Terraform) -> Result<(String, i32)> {
    let output = terraform.run(&["plan", "-no-color", "-input=false", "-detailed-exitcode"])?;
    Ok((format!("{}{}", output.stdout, output.stderr), output.code))
}

fn said(text: &str, what: &str) -> usize {
    text.matches(what).count()
}

fn fails_once(terraform: &Terraform, what: &str) -> Result<String> {
    let (text, code) = plan(terraform)?;
    ensure!(code == 1, "the plan ended with {code}: {text}");
    ensure!(said(&text, what) == 1, "it is said {} times: {text}", said(&text, what));
    ensure!(!text.contains("No changes"), "{text}");
    Ok(text)
}

fn write(terraform: &Terraform, configuration: &Configuration) -> Result<()> {
    terraform.write("main.tf", &format!("{}{STATUS}", configuration.render()))
}

fn off(lab: &Lab) -> Result<()> {
    HOSTS.iter().try_for_each(|host| lab.power_off(host))
}

#[test]
fn what_reaches_no_server_fails_and_claims_nothing() -> Result<()> {
    let lab = Builder::standard(&prefix("blind")).only(&HOSTS).up()?;
    let mut terraform = Terraform::new(&lab, "1.15")?;
    let configuration = Configuration::new(&lab, &HOSTS, ETCD)?;
    terraform.configure(&format!("{}{STATUS}", configuration.render()))?;
    terraform.apply()?;

    // A user that no server lets in.
    write(&terraform, &configuration.clone().ssh("user", quoted("stranger")))?;
    let text = fails_once(&terraform, "Error: No server of the cluster main could be reached")?;
    ensure!(said(&text, "Error:") == 1, "{text}");
    for host in HOSTS {
        ensure!(
            text.contains(&format!("{host}: stranger@")),
            "{host} is not named: {text}"
        );
        ensure!(
            said(&text, &format!("Warning: Server {host} can't be reached")) == 1,
            "{text}"
        );
    }
    ensure!(said(&text, "Warning:") == 3, "more than one warning a server: {text}");

    // A key that can't be read, and one that is not there.
    write(
        &terraform,
        &configuration.clone().ssh("private_key_file", quoted("/etc")),
    )?;
    let text = fails_once(&terraform, "Error: Invalid SSH configuration")?;
    ensure!(text.contains("the private key file /etc can't be read"), "{text}");
    write(
        &terraform,
        &configuration.clone().ssh("private_key_file", quoted("/root/no-key")),
    )?;
    let text = fails_once(&terraform, "Error: Invalid SSH configuration")?;
    ensure!(text.contains("/root/no-key can't be read"), "{text}");

    // One server alone lets us in no more. It is up, and nothing is known of what is on it.
    write(&terraform, &configuration)?;
    let keys = "/home/admin/.ssh/authorized_keys";
    lab.exec("c1", &format!("mv {keys} {keys}.away"))?.ok()?;
    let text = fails_once(&terraform, "Error: Server c1 refuses the connection")?;
    ensure!(
        said(&text, "Error:") == 1 && text.contains("ETCD_ALLOW_UNREACHABLE=true"),
        "{text}"
    );
    // For changes of the others meanwhile.
    terraform.set_environment("ETCD_ALLOW_UNREACHABLE", "true");
    let (text, code) = plan(&terraform)?;
    ensure!(
        code != 1 && text.contains("Warning: Server c1 can't be reached"),
        "{code}: {text}"
    );
    terraform.set_environment("ETCD_ALLOW_UNREACHABLE", "false");
    // It may be taken out, and be reached in another way.
    write(&terraform, &Configuration::new(&lab, &HOSTS[..2], ETCD)?)?;
    let (text, code) = plan(&terraform)?;
    ensure!(
        code == 2 && !text.contains("Error:"),
        "it can't be taken out: {code}: {text}"
    );
    let other = configuration.clone().server("c1", "ssh", "{ user = \"root\" }");
    write(&terraform, &other)?;
    let (text, code) = plan(&terraform)?;
    ensure!(
        code == 2 && !text.contains("Error:"),
        "it can't be reached otherwise: {code}: {text}"
    );
    lab.exec("c1", &format!("mv {keys}.away {keys}"))?.ok()?;

    // One server is down: a warning, and what the others say.
    write(&terraform, &configuration)?;
    lab.power_off("c1")?;
    let (text, code) = plan(&terraform)?;
    ensure!(code == 0 || code == 2, "{text}");
    ensure!(
        said(&text, "Warning:") == 1,
        "more than one warning for one server: {text}"
    );
    ensure!(text.contains("Server c1 can't be reached"), "{text}");

    // Each step is a line of the log, if it is asked for.
    terraform.set_environment("TF_LOG_PROVIDER", "info");
    let (text, _) = plan(&terraform)?;
    ensure!(text.contains("observing the member"), "no steps in the log: {text}");
    terraform.set_environment("TF_LOG_PROVIDER", "off");

    // All are gone for good.
    off(&lab)?;
    fails_once(&terraform, "Error: No server of the cluster main could be reached")?;
    terraform.set_environment("ETCD_ALLOW_UNREACHABLE", "true");
    let refreshed = terraform
        .run(&["apply", "-refresh-only", "-auto-approve", "-no-color", "-input=false"])?
        .ok()?;
    ensure!(
        said(&refreshed, "Warning:") == 3,
        "more than one warning a server: {refreshed}"
    );
    let status = terraform.state()?["values"]["outputs"]["status"]["value"].clone();
    let nothing =
        serde_json::json!({ "healthy": Value::Null, "has_quorum": Value::Null, "healthy_voters": Value::Null });
    ensure!(status == nothing, "it claims {status}");
    terraform.destroy()?;
    ensure!(terraform.state()?["values"].is_null(), "something is left in the state");
    Ok(())
}
