use std::path::{Path, PathBuf};

use super::document::Document;
use super::options::{OPTIONS, WhenAbsent};
use super::*;

const LEAST: &str = "trust_domain = \"example.org\"\nname = \"node-1\"\n";

fn problems(text: &str) -> Vec<String> {
    Config::parse(text).unwrap_err().iter().map(ToString::to_string).collect()
}

#[test]
fn two_options_are_enough_and_the_rest_has_defaults() {
    let config = Config::parse(LEAST).unwrap();
    assert_eq!(config.data_dir, Path::new("/var/lib/quorate"));
    assert_eq!(config.workload_api.socket, Path::new("/run/quorate/workload/workload.sock"));
    assert_eq!(config.admin.socket, Path::new(DEFAULT_ADMIN_SOCKET));
    assert_eq!(config.admin.group, None);
    assert_eq!(config.peer.listen.to_string(), "0.0.0.0:8082");
    assert_eq!(config.addresses(), []);
    assert_eq!(config.initial, None);
    assert_eq!(config.operations.listen.unwrap().to_string(), "127.0.0.1:8083");
    assert_eq!(config.log.format, LogFormat::Text);
}

#[test]
fn an_unknown_option_is_refused_with_its_line_and_the_one_meant() {
    let text = format!("{LEAST}\n[admin]\nsokcet = \"/run/a.sock\"\n");
    assert_eq!(problems(&text), ["line 5: admin.sokcet is not an option; did you mean admin.socket?"]);
    let text = format!("{LEAST}[admni]\n");
    assert_eq!(problems(&text), ["line 3: [admni] is not a table of options; did you mean [admin]?"]);
    let text = format!("group = \"wheel\"\n{LEAST}");
    assert_eq!(problems(&text), ["line 1: group is not an option; did you mean admin.group?"]);
    let text = format!("{LEAST}[log]\ncolour = true\n");
    assert_eq!(problems(&text), ["line 4: log.colour is not an option; log takes: format, level"]);
}

#[test]
fn all_problems_are_reported_together_each_with_what_to_do() {
    let text = "trust_domain = \"spiffe://Example.org\"\n\
                data_dir = \"data\"\n\
                [operations]\n\
                listen = \"localhost:8083\"\n\
                [log]\n\
                level = \"infos\"\n";
    let problems = problems(text);
    assert_eq!(problems.len(), 5, "{problems:#?}");
    assert!(problems[0].starts_with("line 1: trust_domain: "), "{}", problems[0]);
    assert!(problems[0].ends_with("write only the name, without spiffe://"), "{}", problems[0]);
    assert!(problems[1].starts_with("line 2: data_dir: \"data\" is not an absolute path"));
    assert!(problems[2].contains("\"localhost:8083\" is not an IP address with a port"));
    assert!(problems[3].ends_with("did you mean \"info\"?"), "{}", problems[3]);
    assert_eq!(problems[4], "name is missing and has no default; add for example: name = \"node-1\"");
}

/// EP-02, EP-03, EP-06, EP-07: on a unix socket alone, where only callers of this host come.
#[test]
fn the_workload_api_on_a_network_address_is_refused_sb_29() {
    for address in ["tcp://0.0.0.0:8080", "0.0.0.0:8080", "tcp://127.0.0.1:8080"] {
        let text = format!("{LEAST}[workload_api]\nsocket = \"{address}\"\n");
        let problems = problems(&text);
        assert!(problems[0].contains("served on a unix socket alone"), "{problems:?}");
    }
    let text = format!("{LEAST}[workload_api]\nsocket = \"unix:///run/w.sock\"\n");
    assert_eq!(problems(&text), ["line 4: workload_api.socket: write the path alone: \"/run/w.sock\""]);
}

#[test]
fn a_socket_path_the_kernel_cannot_take_is_refused() {
    let long = format!("/{}", "x".repeat(107));
    let text = format!("{LEAST}[admin]\nsocket = \"{long}\"\n");
    assert!(problems(&text)[0].contains("has 108 bytes and the kernel takes at most 107"));
    let fitting = format!("{LEAST}[admin]\nsocket = \"/{}\"\n", "x".repeat(106));
    assert!(Config::parse(&fitting).is_ok());
}

#[test]
fn options_that_contradict_each_other_are_refused() {
    let text = format!("{LEAST}[workload_api]\nsocket = \"/run/q.sock\"\n[admin]\nsocket = \"/run/q.sock\"\n");
    assert!(problems(&text)[0].starts_with("line 6: admin.socket and workload_api.socket are both"));
    let text = format!("{LEAST}[workload_api]\nsocket = \"/var/lib/quorate/w.sock\"\n");
    assert!(problems(&text)[0].contains("inside data_dir"));
    let text = format!("{LEAST}[operations]\nlisten = \"127.0.0.1:8082\"\n");
    assert!(problems(&text)[0].contains("both want port 8082"));
}

#[test]
fn wrong_types_and_broken_toml_are_told_with_their_line() {
    let text = format!("{LEAST}[workload_api]\nmax_connections = \"many\"\nsocket = 5\n");
    let found = problems(&text);
    assert_eq!(
        found,
        [
            "line 4: workload_api.max_connections: must be a whole number from 16 to 1000000",
            "line 5: workload_api.socket: must be text in quotes, not a whole number"
        ]
    );
    assert!(problems(&format!("{LEAST}admin = 3\n"))[0].starts_with("line 3: admin is a table"));
    assert!(problems(&format!("{LEAST}name = \n"))[0].starts_with("line 3: "));
}

#[test]
fn the_example_is_accepted_and_names_every_option() {
    let example = example();
    Config::parse(&example).unwrap();
    for option in OPTIONS {
        assert!(example.contains(&format!("{} = ", option.key)), "{} is missing", option.name());
    }
    // Without its comment signs too: no default or example value is refused by its own rule.
    let all: String = example
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(rest) if OPTIONS.iter().any(|o| rest.starts_with(&format!("{} = ", o.key))) => rest,
            _ => line,
        })
        .map(|line| format!("{line}\n"))
        .collect();
    Config::parse(&all).unwrap();
}

#[test]
fn what_is_shown_is_accepted_again_and_shows_the_same() {
    let text = format!(
        "{LEAST}[admin]\ngroup = 20\n[operations]\nlisten = \"none\"\nhosts = [\"Metrics.example\"]\n\
         [peer]\nadvertise = \"n1.example.org:8082\"\n[log]\nformat = \"json\"\nlevel = \"debug\"\n"
    );
    let config = Config::parse(&text).unwrap();
    assert_eq!(config.admin.group, Some(GroupName::Number(20)));
    assert_eq!(config.operations.hosts, ["metrics.example"]);
    let shown = show(&config);
    assert_eq!(show(&Config::parse(&shown).unwrap()), shown);
    assert!(shown.contains("data_dir = \"/var/lib/quorate\""));
}

const KEY_1: &str = "MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
const KEY_2: &str = "MCowBQYDK2VwAyEAPUAXw+hDiVqStwqnTRt+vJyYLM8uxJaMwM1V8Sr0Zgw=";

/// Two nodes, with more in the second one's entry.
fn listed(more: &str) -> String {
    format!(
        "{LEAST}[cluster.initial]\nnode-1 = {{ addresses = [\"n1.example.org:8082\"], key = \"{KEY_1}\" }}\n\
         node-2 = {{ addresses = \"n2.example.org:8082\", key = \"{KEY_2}\"{more} }}\n"
    )
}

#[test]
fn a_founding_list_names_its_founder_and_is_shown_again() {
    let config = Config::parse(&listed(", region = \"eu\", zone = \"b\", labels = { rack = \"r1\" }")).unwrap();
    let list = config.initial.clone().unwrap();
    assert_eq!(list.founder().unwrap().name.as_str(), "node-1");
    let second = list.iter().nth(1).unwrap();
    assert_eq!((second.region.as_str(), second.zone.as_str(), second.labels["rack"].as_str()), ("eu", "b", "r1"));
    assert_eq!(config.addresses()[0].as_str(), "n1.example.org:8082");
    assert_eq!(Config::parse(&show(&config)).unwrap().initial.unwrap(), list);
    let learner = Config::parse(
        &listed("").replace("key = \"MCowBQYDK2VwAyEA11", "role = \"learner\", key = \"MCowBQYDK2VwAyEA11"),
    );
    assert_eq!(learner.unwrap().initial.unwrap().founder().unwrap().name.as_str(), "node-2");
}

/// ATK-46: nodes found together only if they hold the same list, in every part of it.
#[test]
fn any_difference_in_a_founding_list_changes_its_checksum_atk_46() {
    let checksum = |text: &str| {
        let config = Config::parse(text).unwrap();
        config.initial.unwrap().checksum(&config.trust_domain)
    };
    let reference = checksum(&listed(""));
    let turned = format!(
        "{LEAST}[cluster.initial.node-2]\nkey = \"{KEY_2}\"\naddresses = [\"n2.example.org:8082\"]\n\
         [cluster.initial.node-1]\nkey = \"{KEY_1}\"\naddresses = [\"n1.example.org:8082\"]\n"
    );
    assert_eq!(checksum(&turned), reference, "how it is written does not matter");
    for other in [
        listed("").replace("example.org\"\nname", "example.com\"\nname"),
        listed("").replace("n2.example", "n3.example"),
        listed("").replace("node-2 =", "node-3 ="),
        listed(", role = \"learner\""),
        listed(", region = \"eu\""),
        listed(", zone = \"eu\""),
        listed(", labels = { a = \"b\" }"),
    ] {
        assert_ne!(checksum(&other), reference, "{other}");
    }
}

#[test]
fn a_founding_list_that_cannot_be_one_is_refused() {
    for (text, told) in [
        (listed("").replace("node-1 =", "node-0 ="), "does not have this node: name is node-1"),
        (listed("").replace(KEY_2, KEY_1), "have the same key"),
        (listed("").replace("n2.example", "n1.example"), "have the same address n1.example.org:8082"),
        (listed("").replace(KEY_2, "AAAA"), "is not what `quorate keygen` prints"),
        (listed("").replace("n2.example.org:8082", "n2.example.org"), "node-2: addresses: "),
        (listed("").replace("\"n2.example.org:8082\"", "[]"), "addresses: must be 1 to"),
        (listed(", rol = \"voter\""), "rol is not known here; did you mean role?"),
        (listed(", role = \"king\""), "role: must be \"voter\" or \"learner\""),
        (
            listed(", role = \"learner\"")
                .replace("key = \"MCowBQYDK2VwAyEA11", "role = \"learner\", key = \"MCowBQYDK2VwAyEA11"),
            "has 0 voters",
        ),
        (format!("{LEAST}[cluster]\ninitial = 3\n"), "must be a table"),
        (format!("{LEAST}[cluster.initial]\n"), "has 0 nodes"),
    ] {
        let found = problems(&text);
        assert!(found[0].contains(told), "{told:?} is not in {found:?}");
    }
}

#[test]
fn a_node_is_reached_where_it_says_or_else_where_it_listens() {
    let reached = |peer: &str| {
        let config = Config::parse(&format!("{LEAST}[peer]\n{peer}\n")).unwrap();
        config.addresses().iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(reached("listen = \"10.0.0.1:8082\""), ["10.0.0.1:8082"]);
    assert_eq!(reached("listen = \"[::]:8082\""), Vec::<String>::new());
    assert_eq!(reached("advertise = \"a.example:1\""), ["a.example:1"]);
    assert_eq!(reached("advertise = [\"a.example:1\", \"10.0.0.2:8082\"]"), ["a.example:1", "10.0.0.2:8082"]);
    let twice = format!("{LEAST}[peer]\nadvertise = [\"a.example:1\", \"a.example:1\"]\n");
    assert!(problems(&twice)[0].contains("has a.example:1 twice"));
}

#[test]
fn an_endpoint_url_that_no_peer_would_take_is_refused_fed_18_fed_31() {
    for url in ["http://b.example.org/", "https://a:b@b.example.org/", "https://b.example.org/#x", "b.example.org"] {
        let found = problems(&format!("{LEAST}[bundle_endpoint]\nspiffe_url = \"{url}\"\n"));
        assert!(found[0].starts_with("line 4: bundle_endpoint.spiffe_url: "), "{found:?}");
    }
    let text = format!("{LEAST}[bundle_endpoint]\nspiffe_url = \"https://b.example.org:8443/bundle?v=1\"\n");
    let config = Config::parse(&text).unwrap();
    assert_eq!(config.bundle_endpoint.spiffe_url.unwrap().as_str(), "https://b.example.org:8443/bundle?v=1");
}

#[test]
fn a_web_certificate_is_two_files_or_acme_and_never_half() {
    let with = |more: &str| format!("{LEAST}[bundle_endpoint]\nweb_listen = \"127.0.0.1:9443\"\n{more}");
    assert!(problems(&with(""))[0].contains("needs a web certificate"));
    assert!(problems(&with("certificate = \"/c.pem\"\n"))[0].contains("of no use without bundle_endpoint.private_key"));
    assert!(problems(&with("certificate = \"/c.pem\"\nacme = true\n"))[0].contains("choose one"));
    let files = Config::parse(&with("certificate = \"/c.pem\"\nprivate_key = \"/k.pem\"\n")).unwrap();
    assert!(matches!(files.bundle_endpoint.certificate, Some(WebCertificate::Files { .. })));
    assert_eq!(show(&Config::parse(&show(&files)).unwrap()), show(&files));
    let acme = Config::parse(&with("acme = true\n")).unwrap();
    assert_eq!(acme.bundle_endpoint.certificate, Some(WebCertificate::Acme));
}

#[test]
fn no_two_listeners_take_one_port_and_no_proxy_is_spoken_to_in_the_open() {
    let text = format!(
        "{LEAST}[bundle_endpoint]\nspiffe_listen = \"0.0.0.0:9443\"\n[federation_api]\nlisten = \"127.0.0.1:9443\"\n"
    );
    assert_eq!(
        problems(&text),
        ["line 6: federation_api.listen and bundle_endpoint.spiffe_listen both want port 9443; give each its own"]
    );
    let proxied = |listen: &str| format!("{LEAST}[oidc]\nbehind_proxy = true\nlisten = \"{listen}\"\n");
    assert!(problems(&proxied("0.0.0.0:80"))[0].contains("open to other hosts"));
    Config::parse(&proxied("127.0.0.1:8080")).unwrap();
}

#[test]
fn every_option_of_the_table_is_read_and_shown() {
    let mut document = Document::parse(LEAST);
    let config = read(&mut document).unwrap();
    let read = document.names_read();
    for option in OPTIONS {
        assert!(read.contains(&option.name()), "{} is not read", option.name());
        let optional = matches!(option.when_absent, WhenAbsent::Absent(_));
        let shown = show(&config).contains(&format!("{} = ", option.key));
        assert!(optional || shown, "{} is not shown", option.name());
    }
}

#[test]
fn the_default_admin_socket_is_the_one_of_the_table() {
    let option = OPTIONS.iter().find(|option| option.name() == "admin.socket").unwrap();
    let WhenAbsent::Value(default) = option.when_absent else { panic!("it has a default") };
    assert_eq!(default, format!("{DEFAULT_ADMIN_SOCKET:?}"));
}

#[test]
fn the_reference_page_is_the_one_in_the_repository() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/configuration.md");
    if std::env::var_os("QUORATE_REPAIR").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, reference()).unwrap();
    }
    let page = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(page, reference(), "run QUORATE_REPAIR=1 cargo test -p quorate-node to rewrite it");
}

#[test]
fn a_file_that_is_missing_or_no_text_is_told_apart() {
    let missing = Config::load(Path::new("/nonexistent/node.toml")).unwrap_err();
    assert_eq!(missing.to_string(), "cannot read the configuration \"/nonexistent/node.toml\"");
    let directory = tempfile::tempdir().unwrap();
    let path: PathBuf = directory.path().join("node.toml");
    std::fs::write(&path, [0xff, 0xfe, 0x00]).unwrap();
    assert!(matches!(Config::load(&path), Err(ConfigError::NotText { .. })));
    std::fs::write(&path, vec![b'#'; 1024 * 1024 + 1]).unwrap();
    assert!(matches!(Config::load(&path), Err(ConfigError::TooLarge { .. })));
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_check_panic_and_what_is_wrong_has_a_problem(text in "\\PC*") {
        if let Err(problems) = Config::parse(&text) {
            proptest::prop_assert!(!problems.is_empty());
        }
    }

    #[test]
    fn any_value_of_any_option_is_taken_or_refused_in_words(
        number in 0..OPTIONS.len(), value in r#"("\PC{0,120}"|-?[0-9]{1,20}|true|\[("[a-z.]{0,9}",?){0,3}\])"#
    ) {
        let option = &OPTIONS[number];
        let text = if option.section.is_empty() {
            format!("{} = {value}\n{LEAST}", option.key)
        } else {
            format!("{LEAST}[{}]\n{} = {value}\n", option.section, option.key)
        };
        match Config::parse(&text) {
            Ok(config) => proptest::prop_assert!(Config::parse(&show(&config)).is_ok()),
            Err(problems) => proptest::prop_assert!(problems.iter().all(|problem| !problem.message.is_empty())),
        }
    }
}
