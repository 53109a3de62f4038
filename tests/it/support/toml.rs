//! Only the writing of configuration files belongs here: a base that works on loopback, and what a scene changes about it.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::Origin;
use super::dns::Dns;

/// A configuration under construction.
#[derive(Clone)]
pub struct Config {
    pub listeners: Vec<String>,
    /// `None`: a port of loopback.
    pub admin: Option<std::net::SocketAddr>,
    pub clients: String,
    pub services: Vec<String>,
    sections: BTreeMap<String, BTreeMap<String, String>>,
    pub inspects: bool,
    /// Whether `sekisho ca init` is run before the start.
    pub init_ca: bool,
    /// Text behind everything else.
    pub tail: String,
}

/// One `[[service]]`.
#[derive(Clone)]
pub struct Service {
    text: String,
    tables: String,
    inspects: bool,
}

impl Service {
    pub fn tunnel(name: &str, hosts: &[&str], port: u16) -> Self {
        Self {
            text: format!("name = {name:?}\nhosts = {hosts:?}\nports = [{port}]\n"),
            tables: String::new(),
            inspects: false,
        }
    }

    pub fn inspect(name: &str, hosts: &[&str], port: u16) -> Self {
        Self::tunnel(name, hosts, port).line("mode = \"inspect\"").inspecting()
    }

    pub fn plain(name: &str, hosts: &[&str], port: u16) -> Self {
        Self::tunnel(name, hosts, port).line("plain_http = true")
    }

    fn inspecting(mut self) -> Self {
        self.inspects = true;
        self
    }

    pub fn line(mut self, line: &str) -> Self {
        self.text.push_str(line);
        self.text.push('\n');
        self
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        let _ = write!(self.tables, "[[service.header]]\nname = {name:?}\nvalue = {value:?}\n");
        self
    }

    pub fn limits(mut self, lines: &str) -> Self {
        let _ = write!(self.tables, "[service.limits]\n{lines}\n");
        self
    }

    pub fn ismap(mut self, lines: &str) -> Self {
        let _ = write!(self.tables, "[service.ismap]\n{lines}\n");
        self
    }

    pub fn tenant(mut self, lines: &str) -> Self {
        let _ = write!(self.tables, "[service.tenant]\n{lines}\n");
        self
    }
}

impl Default for Config {
    fn default() -> Self {
        Self::new()
    }
}

impl Config {
    /// Short times, loopback allowed, the test's root trusted, everybody on loopback a client.
    pub fn new() -> Self {
        let config = Self {
            listeners: vec!["127.0.0.1".to_owned()],
            admin: None,
            clients: "[[clients]]\nname = \"office\"\nnetworks = [\"127.0.0.0/8\", \"::1/128\"]\n".to_owned(),
            services: Vec::new(),
            sections: BTreeMap::new(),
            inspects: false,
            init_ca: true,
            tail: String::new(),
        };
        config
            .set("site", "name", "\"Example City\"")
            .set("upstream", "extra_roots", "[\"origins.pem\"]")
            .set("upstream", "allow_addresses", "[\"127.0.0.0/8\"]")
            .set("upstream", "connect_timeout", "\"2s\"")
            .set("timeouts", "drain", "\"3s\"")
            .set("timeouts", "dns", "\"2s\"")
            .set("timeouts", "upstream_handshake", "\"3s\"")
            .set("limits.per_client", "new_connections_per_second", "100000")
            .set("limits.per_client", "burst", "100000")
            .set("limits.per_client", "requests_per_second", "100000")
            .set("record", "path", "\"access.jsonl\"")
    }

    /// One key; `value` as TOML has it.
    pub fn set(mut self, section: &str, key: &str, value: &str) -> Self {
        self.sections.entry(section.to_owned()).or_default().insert(key.to_owned(), value.to_owned());
        self
    }

    /// These name servers are asked.
    pub fn asking(self, dns: &Dns) -> Self {
        self.set("resolver", "servers", &dns.servers())
    }

    pub fn service(mut self, service: Service) -> Self {
        self.inspects |= service.inspects;
        self.services.push(format!("[[service]]\n{}{}", service.text, service.tables));
        self
    }

    pub fn no_services(mut self) -> Self {
        self.services.clear();
        self
    }

    /// Static answers for names, all of them 127.0.0.1.
    pub fn hosts(self, names: &[&str]) -> Self {
        names.iter().fold(self, |config, name| config.host(name, "127.0.0.1"))
    }

    pub fn host(self, name: &str, address: &str) -> Self {
        self.set("resolver.hosts", &format!("{name:?}"), &format!("[{address:?}]"))
    }

    /// A tunnelled service on `origin`, named after its host, with its static address.
    pub fn tunnel(self, host: &str, origin: &Origin) -> Self {
        self.service(Service::tunnel(host, &[host], origin.port())).hosts(&[host])
    }

    /// As [`Config::tunnel`], inspected.
    pub fn inspect(self, host: &str, origin: &Origin) -> Self {
        self.service(Service::inspect(host, &[host], origin.port())).hosts(&[host])
    }

    /// Lets a later reload lead to `origin`: it may use no port that the service did not know at its start.
    pub fn reaching(self, origin: &Origin) -> Self {
        let name = format!("port-{}", origin.port());
        self.service(Service::tunnel(&name, &[&format!("{name}.invalid")], origin.port()))
    }

    pub fn plain(self, host: &str, origin: &Origin) -> Self {
        self.service(Service::plain(host, &[host], origin.port())).hosts(&[host])
    }

    pub fn listen(mut self, address: &str) -> Self {
        self.listeners.push(address.to_owned());
        self
    }

    pub fn clients(mut self, text: &str) -> Self {
        self.clients = text.to_owned();
        self
    }

    pub fn tail(mut self, text: &str) -> Self {
        self.tail.push_str(text);
        self
    }

    pub fn without_ca_init(mut self) -> Self {
        self.init_ca = false;
        self
    }

    /// The file, for these listener addresses and this admin address.
    pub fn render(&self, listeners: &[std::net::SocketAddr], admin: std::net::SocketAddr) -> String {
        let mut out = String::new();
        for address in listeners {
            let _ = write!(out, "[[listener]]\nmode = \"explicit\"\naddress = \"{address}\"\n\n");
        }
        let _ = write!(out, "[admin]\naddress = \"{admin}\"\n\n{}\n", self.clients);
        if self.inspects {
            out.push_str("[issuing_ca]\ncertificate = \"ca.pem\"\nkey = \"ca.key\"\n\n");
        }
        for (section, keys) in &self.sections {
            let _ = writeln!(out, "[{section}]");
            for (key, value) in keys {
                let _ = writeln!(out, "{key} = {value}");
            }
            out.push('\n');
        }
        for service in &self.services {
            out.push_str(service);
            out.push('\n');
        }
        out.push_str(&self.tail);
        out
    }
}
