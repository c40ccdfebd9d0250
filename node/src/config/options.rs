//! The one table of options: the checker, `config example`, `config show` and
//! `docs/reference/configuration.md` are all made from it, so none of them can know an option that
//! another does not.

/// What an option has when the file does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenAbsent {
    /// The file must say; the text is an example, as TOML.
    Required(&'static str),
    /// This TOML value.
    Value(&'static str),
    /// Nothing; the text is an example, as TOML.
    Absent(&'static str),
}

/// One option of the configuration file.
#[derive(Clone, Copy, Debug)]
pub struct ConfigOption {
    /// Name of the table it stands in; empty for the top of the file.
    pub section: &'static str,
    /// Its key.
    pub key: &'static str,
    /// Which values it takes, in words.
    pub takes: &'static str,
    /// What holds when the file does not say.
    pub when_absent: WhenAbsent,
    /// What it is for, in whole sentences, for a person who sets it.
    pub help: &'static str,
}

impl ConfigOption {
    /// The option as people name it: `trust_domain`, `admin.socket`.
    #[must_use]
    pub fn name(&self) -> String {
        if self.section.is_empty() { self.key.to_owned() } else { format!("{}.{}", self.section, self.key) }
    }
}

/// Tables of the file, in the order of the example, with what each is for.
pub const SECTIONS: &[(&str, &str)] = &[
    ("", "Who this node is, and where it keeps what must survive a restart."),
    ("workload_api", "The SPIFFE Workload API, for the workloads of this host."),
    ("admin", "The socket for operators and registrars: SPIRE's server API, founding, policy."),
    ("peer", "Traffic between the nodes of the cluster."),
    ("cluster", "Which nodes found a cluster together, when they are all to begin at once."),
    ("audit", "The record of who did what, in files of this node."),
    ("operations", "Metrics and health over HTTP, read only."),
    ("bundle_endpoint", "The SPIFFE bundle endpoint: our bundle, for any trust domain that wants to trust ours."),
    ("federation_api", "The Federation API: bundles and their changes, for those who prove who they are."),
    ("oidc", "OIDC discovery: the keys of our JWT-SVIDs, for whoever takes OIDC tokens."),
    ("acme", "Answers for web authorities that check that the cluster has its names (quorate acme)."),
    ("federation", "How this node reaches the endpoints of other trust domains."),
    ("log", "What the process says about itself, on standard error."),
];

/// Every option there is.
pub const OPTIONS: &[ConfigOption] = &[
    ConfigOption {
        section: "",
        key: "trust_domain",
        takes: "a trust domain name",
        when_absent: WhenAbsent::Required("\"example.org\""),
        help: "The trust domain this authority issues for. It is in every SPIFFE ID and is \
               fixed when the authority is founded.",
    },
    ConfigOption {
        section: "",
        key: "name",
        takes: "at most 63 of a-z, 0-9, -, _ and .",
        when_absent: WhenAbsent::Required("\"node-1\""),
        help: "The name of this node, one of its kind in the cluster. The node's own SPIFFE \
               ID is spiffe://<trust domain>/spire/agent/quorate/<name>.",
    },
    ConfigOption {
        section: "",
        key: "data_dir",
        takes: "an absolute path",
        when_absent: WhenAbsent::Value("\"/var/lib/quorate\""),
        help: "Where the node keeps its log, snapshots, sealed keys and ledger. Created \
               with mode 0700 if it is not there; refused if others may enter it. One node \
               at a time uses it.",
    },
    ConfigOption {
        section: "workload_api",
        key: "socket",
        takes: "an absolute path of at most 107 bytes",
        when_absent: WhenAbsent::Value("\"/run/quorate/workload/workload.sock\""),
        help: "Where workloads connect (SPIFFE_ENDPOINT_SOCKET=unix://<this path>). The \
               socket is open to every user of the host; who a caller is, the kernel says.",
    },
    // With the descriptors of log, snapshots and sockets the default stays below a hard limit of
    // 20,000 descriptors, the lowest we met on a server.
    ConfigOption {
        section: "workload_api",
        key: "max_connections",
        takes: "a number from 16 to 1000000",
        when_absent: WhenAbsent::Value("16384"),
        help: "Most connections at once; further ones are closed. One user of the host gets \
               at most three quarters of them. Every connection takes one file descriptor, \
               see LimitNOFILE.",
    },
    // A stream costs about 7 KiB, so the default is some 230 MiB at worst for one user (ATK-20).
    ConfigOption {
        section: "workload_api",
        key: "max_calls_per_user",
        takes: "a number from 16 to 10000000",
        when_absent: WhenAbsent::Value("32768"),
        help: "Most streams and calls in flight that one user of the host may have; further \
               ones are answered Unavailable.",
    },
    ConfigOption {
        section: "workload_api",
        key: "foreign_jwt_claims",
        takes: "a list of claims' names, such as [\"iss\"]",
        when_absent: WhenAbsent::Value("[]"),
        help: "Claims of a foreign trust domain's tokens that ValidateJWTSVID tells, beside \
               sub, exp and aud. What else such a token says is that domain's own matter. Of \
               our own tokens it tells all.",
    },
    ConfigOption {
        section: "admin",
        key: "socket",
        takes: "an absolute path of at most 107 bytes",
        when_absent: WhenAbsent::Value("\"/run/quorate/admin/admin.sock\""),
        help: "Where operators connect: the command line, SPIRE's server API. Mode 0660; \
               admitted are root, the user the node runs as, and the group below.",
    },
    ConfigOption {
        section: "admin",
        key: "group",
        takes: "a group name or number",
        when_absent: WhenAbsent::Absent("\"quorate-admin\""),
        help: "A group of this host, by name or number, whose members may use the admin \
               socket. They can do everything there, including minting identities.",
    },
    ConfigOption {
        section: "peer",
        key: "listen",
        takes: "IP address and port",
        when_absent: WhenAbsent::Value("\"0.0.0.0:8082\""),
        help: "Where other nodes of the cluster connect. A node that is alone, has invited \
               nobody and does not set this opens no port here.",
    },
    ConfigOption {
        section: "peer",
        key: "advertise",
        takes: "host and port, or a list of them",
        when_absent: WhenAbsent::Absent("[\"node-1.example.org:8082\"]"),
        help: "The addresses other nodes dial, the best one first, when it is not the one \
               listened on; needed when that is every address of the host. A name is looked \
               up at each dial. A change is told to the cluster at the next start.",
    },
    ConfigOption {
        section: "cluster",
        key: "initial",
        takes: "a table: name = { addresses, key, role, region, zone, labels }",
        when_absent: WhenAbsent::Absent(
            "{ node-1 = { addresses = [\"10.0.0.1:8082\"], \
             key = \"MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\" } }",
        ),
        help: "All nodes that found the cluster together, this one among them, the same on each; \
               best as [cluster.initial] with a line for each node. The key is what quorate keygen \
               prints on that node; role is \"voter\" or \"learner\", a voter unless told, and \
               1 to 7 are voters; region, zone and labels may be left out. Once every one of them \
               answers that it is empty and holds the same list, the voter with the lowest name \
               founds and the others come in. Later the list is looked at no more.",
    },
    // A file of 16 MiB holds some 40,000 records; with fewer than four of them a busy day would be all there is.
    ConfigOption {
        section: "audit",
        key: "keep_bytes",
        takes: "a number from 67108864 to 1099511627776",
        when_absent: WhenAbsent::Value("1073741824"),
        help: "Bytes of the audit trail that are kept in data_dir/audit; when there are more, the \
               oldest files go, and a record says so. Copy them elsewhere before that, if they \
               are to be kept: with every issuance recorded a busy node writes several GiB a day.",
    },
    ConfigOption {
        section: "operations",
        key: "listen",
        takes: "IP address and port, or \"none\"",
        when_absent: WhenAbsent::Value("\"127.0.0.1:8083\""),
        help: "Where /metrics, /live, /ready and /crl are served over HTTP, or \"none\". Nothing \
               secret is shown and nothing can be changed there.",
    },
    ConfigOption {
        section: "operations",
        key: "hosts",
        takes: "a list of host names",
        when_absent: WhenAbsent::Value("[]"),
        help: "Host names a request may be addressed to, beside localhost and plain IP \
               addresses. Others are refused, so that a web page cannot read from here \
               through a visitor's browser.",
    },
    ConfigOption {
        section: "bundle_endpoint",
        key: "spiffe_listen",
        takes: "IP address and port, or \"none\"",
        when_absent: WhenAbsent::Value("\"none\""),
        help: "Where the profile https_spiffe is served: the server shows an X509-SVID with the ID \
               spiffe://<trust domain>/spire/server, which the cluster signs by itself. While any \
               node serves its bundle, a new authority waits three refresh hints before it signs.",
    },
    ConfigOption {
        section: "bundle_endpoint",
        key: "web_listen",
        takes: "IP address and port, or \"none\"",
        when_absent: WhenAbsent::Value("\"none\""),
        help: "Where the profile https_web is served: the server shows a certificate of a public \
               authority, from files or by ACME.",
    },
    ConfigOption {
        section: "bundle_endpoint",
        key: "path",
        takes: "a path of a URL",
        when_absent: WhenAbsent::Value("\"/\""),
        help: "The path of the bundle in both profiles; any other is answered 404.",
    },
    ConfigOption {
        section: "bundle_endpoint",
        key: "spiffe_url",
        takes: "an https URL",
        when_absent: WhenAbsent::Absent("\"https://bundle.example.org:8443/\""),
        help: "How others reach https_spiffe, when it is not the address listened on: behind a balancer, \
               by a name. It is shown in discovery and is best the same on every node.",
    },
    ConfigOption {
        section: "bundle_endpoint",
        key: "web_url",
        takes: "an https URL",
        when_absent: WhenAbsent::Absent("\"https://bundle.example.org/\""),
        help: "How others reach https_web. It is shown in discovery and is best the same on every node.",
    },
    ConfigOption {
        section: "bundle_endpoint",
        key: "certificate",
        takes: "an absolute path",
        when_absent: WhenAbsent::Absent("\"/etc/quorate/web.pem\""),
        help: "The certificate chain of https_web, PEM, the server's own certificate first. Read again when it \
               changes, without a connection lost.",
    },
    ConfigOption {
        section: "bundle_endpoint",
        key: "private_key",
        takes: "an absolute path",
        when_absent: WhenAbsent::Absent("\"/etc/quorate/web.key\""),
        help: "The private key of that certificate, PEM; replaced together with it.",
    },
    ConfigOption {
        section: "bundle_endpoint",
        key: "acme",
        takes: "true or false",
        when_absent: WhenAbsent::Value("false"),
        help: "Takes the certificate that the cluster gets by ACME (quorate acme) for the host of \
               the URL, instead of files.",
    },
    ConfigOption {
        section: "bundle_endpoint",
        key: "max_connections",
        takes: "a number from 16 to 65536",
        when_absent: WhenAbsent::Value("1024"),
        help: "Most connections at once, of each listener; one address gets at most a quarter of \
               them, and a further connection takes the place of the one that is idle longest.",
    },
    ConfigOption {
        section: "bundle_endpoint",
        key: "requests_per_second",
        takes: "a number from 1 to 100000",
        when_absent: WhenAbsent::Value("10"),
        help: "Requests a second that one address (an IPv6 network of 64 bits) may make; ten \
               seconds' worth may come at once, and what is above is answered 429.",
    },
    ConfigOption {
        section: "federation_api",
        key: "listen",
        takes: "IP address and port, or \"none\"",
        when_absent: WhenAbsent::Value("\"none\""),
        help: "Where the Federation API is served: discovery, bundles with their metadata, and \
               their changes as they come. Who may ask is said by quorate federation access.",
    },
    ConfigOption {
        section: "federation_api",
        key: "server",
        takes: "https_spiffe, https_web",
        when_absent: WhenAbsent::Value("\"https_spiffe\""),
        help: "What the server shows: the X509-SVID spiffe://<trust domain>/spire/server, or a \
               certificate of a public authority.",
    },
    ConfigOption {
        section: "federation_api",
        key: "url",
        takes: "an https URL",
        when_absent: WhenAbsent::Absent("\"https://federation.example.org/\""),
        help: "How others reach it, when it is not the address listened on. It is shown in discovery and \
               is best the same on every node.",
    },
    ConfigOption {
        section: "federation_api",
        key: "certificate",
        takes: "an absolute path",
        when_absent: WhenAbsent::Absent("\"/etc/quorate/federation.pem\""),
        help: "The certificate chain, where server is https_web, PEM, the server's own certificate first. Read again when it \
               changes, without a connection lost.",
    },
    ConfigOption {
        section: "federation_api",
        key: "private_key",
        takes: "an absolute path",
        when_absent: WhenAbsent::Absent("\"/etc/quorate/federation.key\""),
        help: "The private key of that certificate, PEM; replaced together with it.",
    },
    ConfigOption {
        section: "federation_api",
        key: "acme",
        takes: "true or false",
        when_absent: WhenAbsent::Value("false"),
        help: "Takes the certificate that the cluster gets by ACME (quorate acme) for the host of \
               the URL, instead of files.",
    },
    ConfigOption {
        section: "federation_api",
        key: "max_connections",
        takes: "a number from 16 to 65536",
        when_absent: WhenAbsent::Value("1024"),
        help: "Most connections at once, of each listener; one address gets at most a quarter of \
               them, and a further connection takes the place of the one that is idle longest.",
    },
    ConfigOption {
        section: "federation_api",
        key: "requests_per_second",
        takes: "a number from 1 to 100000",
        when_absent: WhenAbsent::Value("50"),
        help: "Requests a second that one address (an IPv6 network of 64 bits) may make; ten \
               seconds' worth may come at once, and what is above is answered 429.",
    },
    ConfigOption {
        section: "oidc",
        key: "listen",
        takes: "IP address and port, or \"none\"",
        when_absent: WhenAbsent::Value("\"none\""),
        help: "Where /.well-known/openid-configuration and /keys are served. The issuer is the \
               same on all nodes and is set by quorate oidc.",
    },
    ConfigOption {
        section: "oidc",
        key: "url",
        takes: "an https URL",
        when_absent: WhenAbsent::Absent("\"https://oidc.example.org/\""),
        help: "How others reach it; the certificate must name its host, and the issuer is usually this.",
    },
    ConfigOption {
        section: "oidc",
        key: "certificate",
        takes: "an absolute path",
        when_absent: WhenAbsent::Absent("\"/etc/quorate/oidc.pem\""),
        help: "The certificate chain, PEM, the server's own certificate first. Read again when it \
               changes, without a connection lost.",
    },
    ConfigOption {
        section: "oidc",
        key: "private_key",
        takes: "an absolute path",
        when_absent: WhenAbsent::Absent("\"/etc/quorate/oidc.key\""),
        help: "The private key of that certificate, PEM; replaced together with it.",
    },
    ConfigOption {
        section: "oidc",
        key: "acme",
        takes: "true or false",
        when_absent: WhenAbsent::Value("false"),
        help: "Takes the certificate that the cluster gets by ACME (quorate acme) for the host of \
               the URL, instead of files.",
    },
    ConfigOption {
        section: "oidc",
        key: "behind_proxy",
        takes: "true or false",
        when_absent: WhenAbsent::Value("false"),
        help: "Serves without TLS, on loopback alone, for a proxy on this host that has the \
               certificate.",
    },
    ConfigOption {
        section: "oidc",
        key: "max_connections",
        takes: "a number from 16 to 65536",
        when_absent: WhenAbsent::Value("1024"),
        help: "Most connections at once, of each listener; one address gets at most a quarter of \
               them, and a further connection takes the place of the one that is idle longest.",
    },
    ConfigOption {
        section: "oidc",
        key: "requests_per_second",
        takes: "a number from 1 to 100000",
        when_absent: WhenAbsent::Value("50"),
        help: "Requests a second that one address (an IPv6 network of 64 bits) may make; ten \
               seconds' worth may come at once, and what is above is answered 429.",
    },
    ConfigOption {
        section: "acme",
        key: "http_listen",
        takes: "IP address and port, or \"none\"",
        when_absent: WhenAbsent::Value("\"none\""),
        help: "Where challenges of the kind HTTP-01 are answered, and nothing else, over plain HTTP; \
               authorities come to port 80. Challenges of the kind TLS-ALPN-01 are answered by the \
               HTTPS servers that have acme set.",
    },
    ConfigOption {
        section: "federation",
        key: "allow_private",
        takes: "a list of networks",
        when_absent: WhenAbsent::Value("[]"),
        help: "Private or loopback networks (as in [\"10.20.0.0/16\"]) that a redirect, or a name \
               found by discovery, may lead to. A URL that an operator sets may lead there \
               anyway, and link-local addresses and metadata services of clouds are never \
               asked: so a foreign endpoint cannot make this node speak to services of its \
               own network.",
    },
    ConfigOption {
        section: "federation",
        key: "web_roots",
        takes: "an absolute path",
        when_absent: WhenAbsent::Absent("\"/etc/quorate/web-roots.pem\""),
        help: "The certificate authorities, PEM, that vouch for https_web endpoints, instead of \
               those of the system.",
    },
    ConfigOption {
        section: "federation",
        key: "dns_servers",
        takes: "a list of IP addresses with ports",
        when_absent: WhenAbsent::Value("[]"),
        help: "Name servers that are asked for other domains' addresses and services, instead of \
               those of the system.",
    },
    ConfigOption {
        section: "federation",
        key: "dns_anchors",
        takes: "an absolute path",
        when_absent: WhenAbsent::Absent("\"/etc/quorate/dns-anchors\""),
        help: "DNSSEC trust anchors beside the root's, for signed zones that the root does not lead \
               to: DNSKEY records as a zone file has them. Only discovery looks at them.",
    },
    ConfigOption {
        section: "federation",
        key: "pins",
        takes: "a list of `TRUST DOMAIN host=NAME` and `TRUST DOMAIN key=SHA-256`",
        when_absent: WhenAbsent::Value("[]"),
        help: "What an endpoint of a trust domain has to be before discovery proposes it, known in \
               advance: the host's name, or the SHA-256 of the server's public key in \
               hexadecimal. What is accepted then keeps these pins.",
    },
    ConfigOption {
        section: "federation",
        key: "relationships",
        takes: "a list of tables: [[federation.relationships]]",
        when_absent: WhenAbsent::Absent(
            "[{ trust_domain = \"two.example\", profile = \"https_spiffe\", \
             url = \"https://bundle.two.example:8443/\", \
             endpoint_spiffe_id = \"spiffe://two.example/spire/server\", \
             bundle = \"/etc/quorate/two.example.json\" }]",
        ),
        help: "Relationships with foreign trust domains that this node proposes when it starts; best \
               as [[federation.relationships]] at the end of the file, one for each. They are in the \
               cluster from then on, as those of quorate federation create are. Where nodes differ \
               the first stands, and the others say so. Each has trust_domain, profile \
               (https_web, https_spiffe, federation_api) and url; https_spiffe has \
               endpoint_spiffe_id, federation_api may; bundle is a file with the bundle to begin \
               with. A federation_api may have credential (none, mutual_tls, api_key, oauth), with \
               secret_file, for oauth token_url, client_id, scope and audience, and watch = false. \
               All may have pin_hosts, pin_keys, poll_floor_seconds, follow_redirects and \
               accept_private.",
    },
    ConfigOption {
        section: "log",
        key: "format",
        takes: "text, json",
        when_absent: WhenAbsent::Value("\"text\""),
        help: "text for people, json (one object a line) for log collectors.",
    },
    ConfigOption {
        section: "log",
        key: "level",
        takes: "error, warn, info, debug, trace",
        when_absent: WhenAbsent::Value("\"info\""),
        help: "Least level shown. The environment variable QUORATE_LOG overrides it.",
    },
];
