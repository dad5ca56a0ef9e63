//! The pages in `docs/` against the schemas, and the examples against the pages: what a user reads is what there is.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use terraform_provider_etcd::plugin::block::Provider;
use terraform_provider_etcd::plugin::schema::{Attribute, Kind, Presence, Type};
use terraform_provider_etcd::provider;

/// By the path of the nested object ("" at the top) and the attribute's name: the list that the attribute stands
/// in, and its label.
type Listing = BTreeMap<String, BTreeMap<String, (String, String)>>;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All files below a folder that end so.
fn files(folder: &str, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.unwrap().path();
            let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes()[0] == b'.');
            if path.is_dir() && !hidden {
                folders.push(path);
            } else if path.to_string_lossy().ends_with(ending) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn type_label(r#type: &Type) -> String {
    match r#type {
        Type::Bool => "Boolean".to_owned(),
        Type::Number => "Number".to_owned(),
        Type::String => "String".to_owned(),
        Type::Dynamic => "Dynamic".to_owned(),
        Type::List(of) => format!("List of {}", type_label(of)),
        Type::Set(of) => format!("Set of {}", type_label(of)),
        Type::Map(of) => format!("Map of {}", type_label(of)),
        Type::Object(_) => "Object".to_owned(),
        Type::Tuple(_) => "Tuple".to_owned(),
    }
}

fn label(attribute: &Attribute) -> String {
    let mut label = match &attribute.kind {
        Kind::Plain(r#type) => type_label(r#type),
        Kind::Single(_) => "Attributes".to_owned(),
        Kind::List(_) => "Attributes List".to_owned(),
        Kind::Set(_) => "Attributes Set".to_owned(),
        Kind::Map(_) => "Attributes Map".to_owned(),
    };
    if attribute.sensitive {
        label.push_str(", Sensitive");
    }
    if attribute.write_only || attribute.remembered.is_some() {
        label.push_str(", Write-only");
    }
    label
}

fn section(attribute: &Attribute) -> &'static str {
    match attribute.presence {
        Presence::Required => "Required",
        Presence::Optional | Presence::OptionalComputed => "Optional",
        Presence::Computed => "Read-Only",
    }
}

/// What the schema says.
fn wanted(path: &str, attributes: &[Attribute], listing: &mut Listing) {
    for attribute in attributes {
        let entry = (section(attribute).to_owned(), label(attribute));
        let here = listing.entry(path.to_owned()).or_default();
        here.insert(attribute.name.to_owned(), entry);
        if let Kind::Single(nested) | Kind::List(nested) | Kind::Set(nested) | Kind::Map(nested) = &attribute.kind {
            let dot = if path.is_empty() { "" } else { "." };
            wanted(&format!("{path}{dot}{}", attribute.name), nested, listing);
        }
    }
}

/// What the page's section "Schema" says.
fn documented(page: &str) -> Listing {
    let mut listing = Listing::new();
    let Some((_, schema)) = page.split_once("\n## Schema\n") else {
        return listing;
    };
    let schema = schema.split("\n## ").next().unwrap_or_default();
    let (mut path, mut list) = (String::new(), String::new());
    for line in schema.lines() {
        if let Some(nested) = line.strip_prefix("### Nested Schema for `") {
            path = nested.trim_end_matches('`').to_owned();
        } else if let Some(name) = line.strip_prefix("### ") {
            list = name.to_owned();
        } else if let Some(name) = line.strip_suffix(':').filter(|name| !name.contains(' ')) {
            list = name.to_owned();
        } else if let Some((name, rest)) = line.strip_prefix("- `").and_then(|line| line.split_once("` (")) {
            let label = rest.split(')').next().unwrap_or_default();
            let here = listing.entry(path.clone()).or_default();
            here.insert(name.to_owned(), (list.clone(), label.to_owned()));
        }
    }
    listing
}

fn differences(wanted: &Listing, documented: &Listing) -> Vec<String> {
    let flat = |listing: &Listing| {
        let entries = listing.iter().flat_map(|(path, attributes)| {
            attributes
                .iter()
                .map(move |(name, (section, label))| format!("{path}: {section}: `{name}` ({label})"))
        });
        entries.collect::<Vec<_>>()
    };
    let (wanted, documented) = (flat(wanted), flat(documented));
    let missing = wanted.iter().filter(|entry| !documented.contains(entry));
    let extra = documented.iter().filter(|entry| !wanted.contains(entry));
    let missing = missing.map(|entry| format!("the page lacks   {entry}"));
    missing
        .chain(extra.map(|entry| format!("the schema lacks {entry}")))
        .collect()
}

fn assert_documented(page: &str, attributes: &[Attribute]) {
    let mut listing = Listing::new();
    wanted("", attributes, &mut listing);
    let differences = differences(&listing, &documented(&read(page)));
    assert!(differences.is_empty(), "{page}:\n{}", differences.join("\n"));
}

#[test]
fn pages_list_exactly_what_the_schemas_have() {
    let provider = provider::provider();
    assert_documented("docs/index.md", &provider.schema().attributes);
    for resource in provider.resources() {
        let name = resource.name().trim_start_matches("etcd_");
        assert_documented(&format!("docs/resources/{name}.md"), &resource.schema().attributes);
    }
    for data_source in provider.data_sources() {
        let name = data_source.name().trim_start_matches("etcd_");
        assert_documented(
            &format!("docs/data-sources/{name}.md"),
            &data_source.schema().attributes,
        );
    }
    let short = |name: &'static str| name.trim_start_matches("etcd_");
    for one in provider.actions() {
        let page = format!("docs/actions/{}.md", short(one.name()));
        assert_documented(&page, &one.schema().attributes);
    }
    for one in provider.ephemerals() {
        let page = format!("docs/ephemeral-resources/{}.md", short(one.name()));
        assert_documented(&page, &one.schema().attributes);
    }
    for one in provider.lists() {
        let page = format!("docs/list-resources/{}.md", short(one.name()));
        assert_documented(&page, &one.schema().attributes);
    }
}

#[test]
fn functions_have_pages_with_their_parameters() {
    for function in provider::provider().functions() {
        let page = read(format!("docs/functions/{}.md", function.name()));
        for parameter in function.parameters() {
            let listed = format!("`{}` ({})", parameter.name, type_label(&parameter.r#type));
            assert!(page.contains(&listed), "{}: {listed}", function.name());
        }
        let returns = format!("`{}`", function.name());
        assert!(page.contains(&returns), "{}", function.name());
    }
}

#[test]
fn every_environment_variable_is_on_the_providers_page() {
    let variables = |text: &str| {
        let mut found: Vec<String> = text
            .split(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_'))
            .filter(|word| word.starts_with("ETCD_SSH_") && word.len() > "ETCD_SSH_".len())
            .map(str::to_owned)
            .collect();
        found.sort();
        found.dedup();
        found
    };
    let read_by_the_code = variables(&read("src/resource/connection.rs"));
    assert!(read_by_the_code.len() > 5, "{read_by_the_code:?}");
    assert_eq!(variables(&read("docs/index.md")), read_by_the_code);
}

/// For the people who work on the provider.
const NOT_IN_THE_REGISTRY: [&str; 2] = ["docs/architecture.md", "docs/benchmarks.md"];

/// The registry shows pages of `docs/` and nothing else of the repository, and no pictures of it.
#[test]
fn links_and_pictures_work_in_the_registry() {
    const REPOSITORY: &str = concat!(env!("CARGO_PKG_REPOSITORY"), "/");
    let raw = REPOSITORY.replace("//github.com/", "//raw.githubusercontent.com/");
    let docs = root().join("docs");
    let mut wrong = Vec::new();
    for page in files("docs", ".md") {
        let name = page.strip_prefix(root()).unwrap().display().to_string();
        if NOT_IN_THE_REGISTRY.contains(&name.as_str()) {
            continue;
        }
        let text = read(&page);
        let mut before = "";
        for (at, rest) in text.split("](").enumerate() {
            let link = rest.split(')').next().unwrap_or_default();
            let picture = before.rsplit_once('[').is_some_and(|(before, _)| before.ends_with('!'));
            before = rest;
            if at == 0 || link.starts_with('#') {
                continue;
            }
            let ours = [(REPOSITORY, "blob/main/"), (REPOSITORY, "tree/main/"), (&raw, "main/")]
                .into_iter()
                .find_map(|(place, branch)| link.strip_prefix(place)?.strip_prefix(branch));
            let file = link.split('#').next().unwrap_or_default();
            let fault = match ours {
                Some(path) if !root().join(path.split('#').next().unwrap_or_default()).exists() => "leads to no file",
                None if link.starts_with(REPOSITORY) || link.starts_with(&raw) => "is not on the branch main",
                None if link.contains("://") => "",
                None if picture => "is a picture with a relative path",
                None => match page.parent().unwrap_or(&docs).join(file).canonicalize() {
                    Ok(target) if !target.starts_with(&docs) => "leads out of docs/",
                    Ok(target) if NOT_IN_THE_REGISTRY.iter().any(|other| target.ends_with(other)) => {
                        "leads to no page of the registry"
                    }
                    _ => "",
                },
                Some(_) => "",
            };
            if !fault.is_empty() {
                wrong.push(format!("{name}: {link} {fault}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn pages_of_the_registry_have_front_matter() {
    for page in files("docs", ".md") {
        let name = page.strip_prefix(root()).unwrap().display().to_string();
        if NOT_IN_THE_REGISTRY.contains(&name.as_str()) {
            continue;
        }
        let text = read(&page);
        let front = text.strip_prefix("---\n").and_then(|text| text.split_once("\n---\n"));
        let (front, _) = front.unwrap_or_else(|| panic!("{name} has no front matter"));
        for key in ["page_title: \"", "description: |-\n  "] {
            assert!(front.contains(key), "{name}: {key}");
        }
        // The provider's own page has none.
        assert_eq!(
            front.contains("subcategory: \""),
            name != "docs/index.md",
            "{name}: subcategory"
        );
    }
}

#[test]
fn links_between_files_lead_somewhere() {
    let mut pages = files("docs", ".md");
    pages.extend(files("examples", ".md"));
    pages.extend(["README.md", "CHANGELOG.md"].map(|name| root().join(name)));
    let mut broken = Vec::new();
    for page in pages {
        let text = read(&page);
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.contains("://") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() {
                page.clone()
            } else {
                page.parent().unwrap_or(&page).join(file)
            };
            let known = target.exists() && (anchor.is_empty() || anchors(&read(&target)).contains(&anchor.to_owned()));
            if !known {
                broken.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// What a link can lead to within a page: explicit anchors, and headings as GitHub and the registry name them.
fn anchors(page: &str) -> Vec<String> {
    let explicit = page
        .split("<a id=\"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .map(str::to_owned);
    let headings = page.lines().filter_map(|line| line.strip_prefix('#')).map(|line| {
        line.trim_start_matches('#')
            .trim()
            .to_lowercase()
            .chars()
            .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
            .map(|c| if c == ' ' { '-' } else { c })
            .collect()
    });
    explicit.chain(headings).collect()
}

#[test]
fn pages_show_the_examples_as_they_are() {
    let mut shown = vec![("examples/provider/provider.tf".to_owned(), "docs/index.md".to_owned())];
    let provider = provider::provider();
    for resource in provider.resources() {
        let name = resource.name();
        // What has no identity can't be imported.
        let examples = match resource.identity().is_empty() {
            true => &["resource.tf"][..],
            false => &["resource.tf", "import-by-identity.tf", "import.sh"],
        };
        for example in examples {
            shown.push((
                format!("examples/resources/{name}/{example}"),
                format!("docs/resources/{}.md", name.trim_start_matches("etcd_")),
            ));
        }
    }
    for data_source in provider.data_sources() {
        let name = data_source.name();
        shown.push((
            format!("examples/data-sources/{name}/data-source.tf"),
            format!("docs/data-sources/{}.md", name.trim_start_matches("etcd_")),
        ));
    }
    let mut add = |folder: &str, name: &str, example: &str| {
        let page = format!("docs/{folder}/{}.md", name.trim_start_matches("etcd_"));
        shown.push((format!("examples/{folder}/{name}/{example}"), page));
    };
    for one in provider.actions() {
        add("actions", one.name(), "action.tf");
    }
    for one in provider.ephemerals() {
        add("ephemeral-resources", one.name(), "ephemeral-resource.tf");
    }
    for one in provider.lists() {
        add("list-resources", one.name(), "list-resource.tfquery.hcl");
    }
    for function in provider.functions() {
        let name = function.name();
        shown.push((
            format!("examples/functions/{name}/function.tf"),
            format!("docs/functions/{name}.md"),
        ));
    }
    for (example, page) in shown {
        let language = if example.ends_with(".sh") { "shell" } else { "terraform" };
        let block = format!("```{language}\n{}```\n", read(&example));
        assert!(read(&page).contains(&block), "{page} does not show {example} as it is");
    }
}

#[test]
fn the_readmes_of_modules_list_their_inputs_and_outputs() {
    let names = |text: &str, block: &str| -> Vec<String> {
        let found = text
            .lines()
            .filter_map(|line| line.strip_prefix(block)?.split('"').nth(1));
        let mut found: Vec<String> = found.map(str::to_owned).collect();
        found.sort();
        found
    };
    let listed = |readme: &str, heading: &str| -> Vec<String> {
        let section = readme.split(heading).nth(1).unwrap_or_default();
        let section = section.split("\n## ").next().unwrap_or_default();
        let rows = section
            .lines()
            .filter_map(|line| line.strip_prefix("| ")?.split(' ').next());
        // The table's own heading comes first.
        rows.skip(1).map(str::to_owned).collect()
    };
    let module = "examples/modules/region";
    let readme = read(format!("{module}/README.md"));
    let inputs = names(&read(format!("{module}/variables.tf")), "variable ");
    let outputs = names(&read(format!("{module}/outputs.tf")), "output ");
    assert!(!inputs.is_empty() && !outputs.is_empty(), "{module}");
    assert_eq!(listed(&readme, "\n## Inputs\n"), inputs, "{module}");
    assert_eq!(listed(&readme, "\n## Outputs\n"), outputs, "{module}");
}

#[test]
fn examples_are_balanced() {
    for path in files("examples", ".tf") {
        if let Err(problem) = balanced(&read(&path)) {
            panic!("{}: {problem}", path.display());
        }
    }
}

#[test]
fn the_readme_shows_balanced_configuration() {
    let readme = read("README.md");
    let blocks: Vec<&str> = readme
        .split("```hcl\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .collect();
    assert!(!blocks.is_empty());
    for block in blocks {
        assert_eq!(balanced(block), Ok(()), "{block}");
    }
}

/// Whether brackets and quotes match, comments left aside: what can be told without a parser.
fn balanced(text: &str) -> Result<(), String> {
    let mut open = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let mut quoted = false;
        let mut characters = line.chars().peekable();
        while let Some(character) = characters.next() {
            match character {
                '\\' if quoted => drop(characters.next()),
                '"' => quoted = !quoted,
                _ if quoted => {}
                '#' => break,
                '/' if characters.peek() == Some(&'/') => break,
                '{' | '[' | '(' => open.push((character, number)),
                '}' | ']' | ')' => {
                    let fits = open
                        .pop()
                        .is_some_and(|(opened, _)| matches!((opened, character), ('{', '}') | ('[', ']') | ('(', ')')));
                    if !fits {
                        return Err(format!("line {number}: {character} closes nothing"));
                    }
                }
                _ => {}
            }
        }
        if quoted {
            return Err(format!("line {number}: a quote is not closed"));
        }
    }
    match open.pop() {
        Some((character, line)) => Err(format!("line {line}: {character} is not closed")),
        None => Ok(()),
    }
}

#[test]
fn the_guide_has_the_words_that_a_recovery_takes() {
    let guide = read("docs/guides/disaster-recovery.md");
    let lost = ["b1", "c1"].map(str::to_owned).into();
    let words = terraform_provider_etcd::membership::recovery::acknowledgement("main", "a1", &lost);
    assert!(guide.contains(&format!("accept_data_loss = {words:?}")), "{words}");
    assert!(guide.contains("survivor         = \"a1\"") && guide.contains("lost             = [\"b1\", \"c1\"]"));
}
