//! Names and machines in the map of servers: names that change machines, machines that change names, and servers that leave the map while
//! their members have a vote.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use etcd_lab::{Builder, Lab};

use crate::configuration::{Configuration, quoted};
use crate::outside::{ctl, eventually, hosts_block, leftovers, member_list, one_cluster};
use crate::prefix;
use crate::scaling::{Scene, VERSION};
use crate::terraform::Terraform;
use crate::writer::Writer;

const THREE: [&str; 3] = ["a1", "a2", "b1"];

/// What views and members are made of, on each host.
fn files(lab: &Lab, hosts: &[&str]) -> Result<Vec<String>> {
    let look =
        "cat /etc/hosts; cd /etc/etcd && find . -type f | sort | xargs sha256sum; systemctl show -p MainPID etcd-main";
    hosts.iter().map(|host| lab.exec(host, look)?.ok()).collect()
}

fn voters(lab: &Lab, host: &str) -> Result<Vec<String>> {
    let mut names: Vec<String> = { member_list(lab, host)?.into_iter() }
        .filter(|member| !member.learner)
        .map(|member| member.name)
        .collect();
    names.sort();
    Ok(names)
}

/// The configuration with a map that was written by hand in the place of the servers.
fn by_hand(configuration: &Configuration) -> String {
    let text = configuration.render();
    let (before, rest) = text.split_once("  servers = {").expect("a map of servers");
    let (_, after) = rest.split_once('\n').expect("more lines");
    let servers = configuration.servers.iter().map(|(name, arguments)| {
        let arguments: Vec<String> = { arguments.iter() }
            .map(|(key, value)| format!("{key} = {value}"))
            .collect();
        format!("    {name} = {{ {} }}\n", arguments.join(", "))
    });
    format!("{before}  servers = {{\n{}  }}\n{after}", servers.collect::<String>())
}

/// The configuration in which each of the first names has the arguments that the second one had.
fn moved(configuration: &Configuration, pairs: &[(&str, &str)], arguments: &[&str]) -> Configuration {
    let mut moved = configuration.clone();
    for (name, other) in pairs {
        for argument in arguments {
            moved = match configuration.servers[*other].get(*argument) {
                Some(value) => moved.server(name, argument, value.clone()),
                None => moved.without(name, argument),
            };
        }
    }
    moved
}

#[test]
fn names_at_other_members_machines_are_refused_before_any_view_is_written() -> Result<()> {
    let lab = Builder::standard(&prefix("names")).only(&THREE).up()?;
    let good = Configuration::new(&lab, &THREE, VERSION)?;
    let scene = Scene::found_as(&lab, &THREE, &good)?;
    let before = files(&lab, &THREE)?;
    let everything = ["network", "private_address", "public_address"];
    let refused = |what: &str, text: String, words: &[&str]| -> Result<()> {
        scene.terraform.write("main.tf", &text)?;
        let said = scene.terraform.apply_fails().with_context(|| what.to_owned())?;
        eprintln!("{what}: {said}");
        for word in words {
            ensure!(said.contains(word), "{what}: no {word} in {said}");
        }
        ensure!(said.contains("Nothing was changed on any server."), "{what}: {said}");
        ensure!(files(&lab, &THREE)? == before, "{what}: something was changed");
        // And again: what was refused is not in the state.
        let said = scene
            .terraform
            .apply_fails()
            .with_context(|| format!("{what}, again"))?;
        ensure!(said.contains(words[0]), "{what}, again: {said}");
        ensure!(
            files(&lab, &THREE)? == before,
            "{what}: something was changed the second time"
        );
        Ok(())
    };

    let swapped = moved(&good, &[("a1", "b1"), ("b1", "a1")], &everything);
    let words = [
        "Server a1 (private_address = \"10.0.0.11\", public_address = \"203.0.113.21\") is reached at the machine that holds the member b1",
        "Server b1 (private_address = \"10.0.0.11\", public_address = \"203.0.113.11\") is reached at the machine that holds the member a1",
    ];
    refused("swapped", swapped.render(), &words)?;
    refused("swapped by hand", by_hand(&swapped), &words)?;

    let rotated = moved(&good, &[("a1", "a2"), ("a2", "b1"), ("b1", "a1")], &everything);
    let words = [
        "that holds the member a2",
        "that holds the member b1",
        "that holds the member a1",
    ];
    refused("rotated", by_hand(&rotated), &words)?;

    // The provider logs in by the public addresses, which are right.
    let private = moved(&good, &[("a1", "a2"), ("a2", "a1")], &["private_address"]);
    let words = [
        "has the private_address 10.0.0.12, which is on an interface of a2 and on none of its own",
        "has the private_address 10.0.0.11, which is on an interface of a1 and on none of its own",
    ];
    refused("private addresses swapped", by_hand(&private), &words)?;

    // The same with public addresses, which are the routers', and a way in of its own for each.
    let mut public = moved(&good, &[("a1", "a2"), ("a2", "a1")], &["public_address"]);
    for host in ["a1", "a2"] {
        let way = format!("{{ host = {} }}", good.servers[host]["public_address"]);
        public = public.server(host, "ssh", way);
    }
    let words = [
        "has the public_address 203.0.113.12, at which the member of a2 answers",
        "has the public_address 203.0.113.11, at which the member of a1 answers",
    ];
    refused("public addresses swapped", public.render(), &words)?;

    // The way in was copied from another server.
    let copied = good
        .clone()
        .server("a2", "ssh", format!("{{ host = {} }}", quoted("203.0.113.11")));
    let words = [
        "Server a2 (",
        "that holds the member a1",
        "the same machine as the server a1",
    ];
    refused("a way in that was copied", by_hand(&copied), &words)?;

    // Each machine by the name of its member again, as was said.
    scene.terraform.write("main.tf", &by_hand(&good))?;
    scene.terraform.apply()?;
    scene.is_whole()?;
    scene.terraform.write("main.tf", &good.render())?;
    scene.terraform.apply()?;
    scene.is_whole()
}

#[test]
fn a_server_gets_another_name_in_one_apply() -> Result<()> {
    let lab = Builder::standard(&prefix("names-new")).only(&THREE).up()?;
    let good = Configuration::new(&lab, &THREE, VERSION)?;
    let scene = Scene::found_as(&lab, &THREE, &good)?;
    let renamed = |from: &Configuration, old: &str, new: &str| {
        let mut to = from.clone();
        let mut arguments = to.servers.remove(old).unwrap_or_default();
        arguments.insert("name".to_owned(), quoted(new));
        to.servers.insert(new.to_owned(), arguments);
        to
    };
    let writer = Writer::start(&lab, &["a1", "a2"])?;
    let second = renamed(&good, "b1", "z1");
    scene.terraform.write("main.tf", &second.render())?;
    scene.terraform.apply()?;
    let names = |all: [&str; 3]| all.map(str::to_owned).to_vec();
    for host in THREE {
        ensure!(
            voters(&lab, host)? == names(["a1", "a2", "z1"]),
            "{:?}",
            member_list(&lab, host)?
        );
        let block: Vec<String> = hosts_block(&lab, host)?.into_iter().collect();
        ensure!(block == names(["a1", "a2", "z1"]), "{host} has {block:?}");
    }
    ensure!(one_cluster(&lab, &THREE)? == scene.cluster, "it is another cluster");
    scene.terraform.nothing_to_do()?;
    writer.stop()?.nothing_lost()?;

    // One call after the other, and the first by name.
    let third = renamed(&second, "a1", "y1");
    scene.terraform.write("main.tf", &third.render())?;
    scene
        .terraform
        .run(&["apply", "-auto-approve", "-input=false", "-no-color", "-parallelism=1"])?
        .ok()?;
    ensure!(
        voters(&lab, "a2")? == names(["a2", "y1", "z1"]),
        "{:?}",
        member_list(&lab, "a2")?
    );
    scene.terraform.nothing_to_do()?;

    // All names at once: nobody would be left to hand the data over.
    let all = renamed(&renamed(&renamed(&third, "a2", "a9"), "y1", "y9"), "z1", "z9");
    let before = files(&lab, &THREE)?;
    scene.terraform.write("main.tf", &all.render())?;
    let said = scene.terraform.apply_fails()?;
    ensure!(said.contains("rename one server in each apply"), "{said}");
    ensure!(files(&lab, &THREE)? == before, "something was changed");
    Ok(())
}

/// Servers by count, or by name with the moves that lead there.
fn counted(lab: &Lab, machines: &[&str], names: Option<&[&str]>) -> Result<String> {
    let good = Configuration::new(lab, &[], VERSION)?;
    let text = good.render();
    let (head, _) = text.split_once("resource \"etcd_cluster\"").context("no cluster")?;
    let mut text = head.to_owned() + "locals {\n  machines = {\n";
    for (number, machine) in machines.iter().enumerate() {
        let name = names.map_or_else(|| number.to_string(), |names| quoted(names[number]));
        text += &format!(
            "    {name} = {{ network = {}, private = {}, public = {} }}\n",
            quoted(&lab.spec().site_of(machine)?),
            quoted(&lab.private_address(machine)?.to_string()),
            quoted(&lab.public_address(machine)?.context("no public address")?.to_string()),
        );
    }
    text += "  }\n}\n";
    let (repeat, key, name) = match names {
        None => ("count = length(local.machines)", "count.index", "s${count.index}"),
        Some(_) => ("for_each = local.machines", "each.key", "${each.key}"),
    };
    text += &format!(
        "resource \"etcd_server\" \"this\" {{\n  {repeat}\n  name = \"{name}\"\n  network = local.machines[{key}].network\n  \
         private_address = local.machines[{key}].private\n  public_address = local.machines[{key}].public\n}}\n\
         resource \"etcd_cluster\" \"main\" {{\n  name = \"main\"\n  servers = {{ for one in etcd_server.this : one.name => one }}\n}}\n\
         resource \"etcd_member\" \"this\" {{\n  {repeat}\n  cluster = etcd_cluster.main\n  server = \"{name}\"\n  version = \"{VERSION}\"\n  \
         binary = {{ host_path = \"/opt/etcd/{VERSION}\" }}\n}}\n"
    );
    Ok(text)
}

#[test]
fn the_first_of_a_count_is_taken_out_as_the_refusal_says() -> Result<()> {
    let lab = Builder::standard(&prefix("names-count")).only(&THREE).up()?;
    let terraform = Terraform::new(&lab, "1.15")?;
    terraform.configure(&counted(&lab, &THREE, None)?)?;
    terraform.apply()?;
    let cluster = one_cluster(&lab, &THREE)?;
    let before = files(&lab, &THREE)?;
    terraform.write("main.tf", &counted(&lab, &THREE[1..], None)?)?;
    for _ in 0..2 {
        let said = terraform.apply_fails()?;
        eprintln!("the first of a count: {said}");
        for words in [
            "is reached at the machine that holds the member s1",
            "is reached at the machine that holds the member s2",
            "s1: private_address = \"10.0.0.12\", public_address = \"203.0.113.12\"",
            "moved block",
        ] {
            ensure!(said.contains(words), "no {words} in {said}");
        }
        ensure!(files(&lab, &THREE)? == before, "something was changed");
    }
    // As it says: names that stay with their machines, and a moved block for each resource that stays.
    let mut text = counted(&lab, &THREE[1..], Some(&["s1", "s2"]))?;
    for number in 1..3 {
        for block in ["etcd_server", "etcd_member"] {
            text += &format!("moved {{\n  from = {block}.this[{number}]\n  to = {block}.this[\"s{number}\"]\n}}\n");
        }
    }
    terraform.write("main.tf", &text)?;
    terraform.apply()?;
    ensure!(voters(&lab, "a2")? == ["s1", "s2"], "{:?}", member_list(&lab, "a2")?);
    ensure!(one_cluster(&lab, &["a2", "b1"])? == cluster, "it is another cluster");
    ensure!(
        leftovers(&lab, "a1")?.is_empty(),
        "left on a1: {}",
        leftovers(&lab, "a1")?
    );
    terraform.nothing_to_do()
}

#[test]
fn a_member_that_no_state_knows_keeps_its_server_in_the_map() -> Result<()> {
    let lab = Builder::standard(&prefix("names-state")).only(&THREE).up()?;
    let good = Configuration::new(&lab, &THREE, VERSION)?;
    let two = Configuration::new(&lab, &THREE[..2], VERSION)?;
    let scene = Scene::found_as(&lab, &THREE, &good)?;
    let terraform = &scene.terraform;
    let servers = || -> Result<BTreeMap<String, serde_json::Value>> {
        let servers = terraform.attributes("etcd_cluster.main")?["servers"].take();
        Ok(serde_json::from_value(servers)?)
    };
    let refused = |what: &str, hosts: &[&str]| -> Result<String> {
        let before = files(&lab, hosts)?;
        terraform.write("main.tf", &two.render())?;
        let mut said = String::new();
        for attempt in 1..=3 {
            said = terraform
                .apply_fails()
                .with_context(|| format!("{what}, attempt {attempt}"))?;
            ensure!(
                said.contains("The member of server b1 has not left the cluster"),
                "{what}: {said}"
            );
            ensure!(
                files(&lab, hosts)? == before,
                "{what}: something was changed by attempt {attempt}"
            );
            ensure!(servers()?.contains_key("b1"), "{what}: the state lost b1");
        }
        eprintln!("{what}: {said}");
        Ok(said)
    };
    let forget = || {
        terraform
            .run(&["state", "rm", "etcd_member.this[\"b1\"]"])?
            .ok()
            .map(drop)
    };

    forget()?;
    refused("it runs", &THREE)?;
    // The first way: back into the configuration, and out of it.
    terraform.write("main.tf", &good.render())?;
    terraform.apply()?;
    scene.is_whole()?;
    terraform.write("main.tf", &two.render())?;
    terraform.apply()?;
    ensure!(voters(&lab, "a1")? == ["a1", "a2"], "{:?}", member_list(&lab, "a1")?);
    ensure!(
        leftovers(&lab, "b1")?.is_empty(),
        "left on b1: {}",
        leftovers(&lab, "b1")?
    );

    // The second way, while its machine is off: by hand, with the command that was given.
    terraform.write("main.tf", &good.render())?;
    terraform.apply()?;
    forget()?;
    lab.power_off("b1")?;
    let said = refused("its machine is off", &THREE[..2])?;
    lab.power_on("b1")?;
    eventually("b1 is back", || {
        Ok(lab.exec("b1", "systemctl is-active etcd-main")?.success())
    })?;
    let said_on = refused("its machine is back", &THREE)?;
    let command = |said: &str| -> Result<String> {
        let (_, rest) = said.split_once("Run as root on a1:").context("no command")?;
        let (command, _) = rest.split_once("Then apply again").context("no end of the command")?;
        Ok(command.split_whitespace().collect::<Vec<_>>().join(" "))
    };
    ensure!(command(&said)? == command(&said_on)?, "{said} {said_on}");
    lab.exec("a1", &format!("PATH=$PATH:/opt/etcd/{VERSION}; {}", command(&said)?))?
        .ok()?;
    terraform.apply()?;
    ensure!(voters(&lab, "a1")? == ["a1", "a2"], "{:?}", member_list(&lab, "a1")?);
    eventually("nothing of it is left on b1", || Ok(leftovers(&lab, "b1")?.is_empty()))?;
    lab.exec("b1", "ls -d /var/lib/etcd/main.removed-*")?.ok()?;
    terraform.nothing_to_do()?;
    ctl(&lab, "a1", "endpoint health").map(drop)
}

#[test]
fn a_view_that_could_not_be_written_is_still_to_be_written() -> Result<()> {
    let lab = Builder::standard(&prefix("names-view")).only(&THREE).up()?;
    let good = Configuration::new(&lab, &THREE, VERSION)?;
    let scene = Scene::found_as(&lab, &THREE, &good)?;
    let terraform = &scene.terraform;
    // From now on a1 and a2 dial each other by public address, and a1's file can't be written.
    lab.exec(
        "a1",
        "mount --bind /etc/hosts /etc/hosts && mount -o remount,ro,bind /etc/hosts",
    )?
    .ok()?;
    terraform.write("main.tf", &good.server("a2", "network", quoted("D")).render())?;
    let said = terraform.apply_fails()?;
    ensure!(said.contains("Server a1 is not ready"), "{said}");
    let view = |host: &str, of: &str| -> Result<serde_json::Value> {
        let members = terraform.attributes("etcd_cluster.main")?["members"].take();
        Ok(members[host]["addresses"][of].clone())
    };
    ensure!(
        view("a1", "a2")? == "10.0.0.12",
        "the state has {} for a1",
        view("a1", "a2")?
    );
    ensure!(
        view("a2", "a1")? == "203.0.113.11",
        "the state has {} for a2",
        view("a2", "a1")?
    );
    // No refresh has to find out.
    let plan = [
        "plan",
        "-refresh=false",
        "-detailed-exitcode",
        "-input=false",
        "-no-color",
    ];
    let planned = terraform.run(&plan)?;
    ensure!(
        planned.code == 2 && planned.stdout.contains("etcd_cluster.main will be updated"),
        "{}",
        planned.stdout
    );
    lab.exec("a1", "umount /etc/hosts")?.ok()?;
    terraform
        .run(&["apply", "-refresh=false", "-auto-approve", "-input=false", "-no-color"])?
        .ok()?;
    ensure!(
        lab.read_file("a1", "/etc/hosts")?
            .contains("203.0.113.12 a2.main.etcd.internal"),
        "a1 has its former view"
    );
    ensure!(one_cluster(&lab, &THREE)? == scene.cluster, "it is another cluster");
    terraform.nothing_to_do()
}
