//! `sekisho explain`: the decision for one flow, by the very function the proxy calls, with the place in the file.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::time::SystemTime;

use serde::Serialize;

use super::{ConfigFile, DENIED, DONE, fail, say};
use crate::addrs::ClientAddr;
use crate::admit::Quotas;
use crate::config::{Config, Scope, quotas_in_words, quotas_shown};
use crate::identify::client_hello::Sni;
use crate::names::{Authority, AuthorityError, DnsName, NameError};
use crate::policy::{Claim, Decision, Method, Observing, Rule, Until, reconcile_inspect, reconcile_tunnel};
use crate::reason::Reason;

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigFile,
    /// The client's address
    #[arg(long, value_name = "IP")]
    client: IpAddr,
    /// The server_name the client's hello would carry, if it is another than the host
    #[arg(long, value_name = "NAME")]
    sni: Option<String>,
    /// For machines
    #[arg(long)]
    json: bool,
    /// HOST, HOST:PORT (443 if left out), or an http:// URL
    #[arg(value_name = "HOST[:PORT]")]
    destination: String,
}

/// What is told, as `--json` has it.
#[derive(Serialize)]
struct Explanation {
    decision: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    /// Only observing lets it through, until then.
    #[serde(skip_serializing_if = "Option::is_none")]
    would_refuse: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    observe_until: Option<String>,
    rule: RuleAt,
    client: IpAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<String>,
    destination: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    /// Names only.
    headers_set: Vec<String>,
    limits: LimitsThatApply,
}

#[derive(Serialize)]
struct RuleAt {
    id: String,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pattern: Option<String>,
    /// `file:line`.
    #[serde(skip_serializing_if = "Option::is_none")]
    place: Option<String>,
}

/// By the keys of the configuration; a limit there is none of is left out.
#[derive(Serialize)]
struct LimitsThatApply {
    client: Limits,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<Limits>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<Limits>,
    all: Limits,
}

#[derive(Serialize)]
#[serde(transparent)]
struct Limits {
    shown: BTreeMap<&'static str, String>,
    #[serde(skip)]
    in_words: Vec<String>,
}

impl Limits {
    fn of(quotas: &Quotas) -> Self {
        Self { shown: quotas_shown(quotas).into_iter().collect(), in_words: quotas_in_words(quotas) }
    }

    /// `None` where there is none.
    fn of_some(quotas: Option<&Quotas>) -> Option<Self> {
        quotas.map(Self::of).filter(|limits| !limits.shown.is_empty())
    }
}

pub(super) fn explain(arguments: &Arguments) -> ExitCode {
    let config = match arguments.config.load(Scope::Full) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let sni = match arguments.sni.as_deref().map(|name| DnsName::parse(name.as_bytes())).transpose() {
        Ok(sni) => sni,
        Err(error) => return fail(&format!("--sni: {error}")),
    };
    let claim = match claim(&arguments.destination) {
        Ok(claim) => claim,
        Err(_) if arguments.destination.contains("://") => {
            return fail(&format!(
                "{}: write HOST or HOST:PORT; only http:// takes a URL (an https:// request is a CONNECT to HOST:443)",
                arguments.destination
            ));
        }
        Err(error @ AuthorityError::Host(_)) => return malformed(&config, arguments, &error),
        Err(error) => return fail(&format!("{}: {error}", arguments.destination)),
    };
    let explanation = judge(&config, arguments.client, &claim, sni);
    tell(&explanation, arguments.json)
}

fn tell(explanation: &Explanation, json: bool) -> ExitCode {
    if json {
        match serde_json::to_string_pretty(explanation) {
            Ok(json) => say(&json),
            Err(error) => return fail(&error),
        }
    } else {
        say(&explanation.to_text());
    }
    if explanation.reason.is_none() { DONE.into() } else { DENIED.into() }
}

/// What the proxy answers to an authority that holds no name.
fn malformed(config: &Config, arguments: &Arguments, error: &AuthorityError) -> ExitCode {
    let mut told = Told::default();
    told.deny(Reason::MalformedName, Some(error.to_string()));
    let client = ClientAddr::new(SocketAddr::new(arguments.client, 0));
    tell(&told.finish(config, client, &arguments.destination), arguments.json)
}

/// The same doors as on the wire: the text is parsed as a CONNECT authority or a URI's would be.
fn claim(text: &str) -> Result<Claim, AuthorityError> {
    if let Some(rest) = text.strip_prefix("http://") {
        let authority = rest.split(['/', '?']).next().unwrap_or(rest);
        let authority = Authority::parse_with_default(authority.as_bytes(), 80)?;
        return Ok(Claim::Request { method: Method::Get, authority });
    }
    if text.contains("://") {
        return Err(AuthorityError::Host(NameError::Character));
    }
    Authority::parse_with_default(text.as_bytes(), 443).map(Claim::Connect)
}

fn judge(config: &Config, client: IpAddr, claim: &Claim, sni: Option<DnsName>) -> Explanation {
    let client_addr = ClientAddr::new(SocketAddr::new(client, 0));
    let hello = |name: &DnsName| Sni::Name(sni.clone().unwrap_or_else(|| name.clone()));
    let mut told = Told::default();
    let observing = config.site.enforcement.at(SystemTime::now());
    match config.policy.judge(client_addr, claim, observing) {
        Decision::Deny(denial) => {
            told.deny(denial.reason(), None);
            told.rule(config, denial.rule(), denial.group().map(|group| &**group));
        }
        Decision::Tunnel(permit) => {
            told.allow("tunnel");
            told.would_refuse = permit.would_refuse().zip(observing.map(Observing::until));
            told.rule(config, permit.rule(), Some(permit.group()));
            let sni = hello(permit.destination().name());
            if let Err(disagreement) = reconcile_tunnel(permit, &sni) {
                told.deny(disagreement.reason(), Some(disagreement.to_string()));
            }
        }
        Decision::Inspect(permit) => {
            told.allow("inspect");
            told.rule(config, permit.rule(), Some(permit.group()));
            told.headers = permit.headers().map(|header| header.name.clone()).collect();
            let sni = hello(permit.destination().name());
            if let Err(disagreement) = reconcile_inspect(permit, &sni) {
                told.deny(disagreement.reason(), Some(disagreement.to_string()));
            }
        }
        Decision::Plain(permit) => {
            told.allow("plain_http");
            told.rule(config, permit.rule(), Some(permit.group()));
        }
    }
    told.finish(config, client_addr, &claim.authority().to_string())
}

/// Gathered while the decision is read.
#[derive(Default)]
struct Told {
    decision: &'static str,
    reason: Option<Reason>,
    would_refuse: Option<(Reason, Until)>,
    detail: Option<String>,
    rule: Option<RuleAt>,
    group: Option<String>,
    headers: Vec<String>,
}

impl Told {
    fn allow(&mut self, decision: &'static str) {
        self.decision = decision;
    }

    fn deny(&mut self, reason: Reason, detail: Option<String>) {
        (self.decision, self.reason, self.detail) = ("deny", Some(reason), detail);
        self.would_refuse = None;
        self.headers.clear();
    }

    fn rule(&mut self, config: &Config, rule: &Rule, group: Option<&str>) {
        self.group = group.map(str::to_owned);
        self.rule = Some(RuleAt {
            id: rule.id().to_owned(),
            name: rule.name().to_owned(),
            pattern: rule.pattern().map(ToString::to_string),
            place: rule.line().map(|line| format!("{}:{line}", config.file.display())),
        });
    }

    fn finish(self, config: &Config, client: ClientAddr, destination: &str) -> Explanation {
        let limits = &config.limits;
        let group = config.policy.group_of(client);
        let service = self.rule.as_ref().and_then(|rule| limits.service(&rule.name));
        let limits = LimitsThatApply {
            client: Limits::of(limits.of_client(group)),
            group: Limits::of_some(group.and_then(|name| limits.group(name)).map(|group| &group.whole)),
            service: Limits::of_some(service.filter(|_| self.reason.is_none()).map(|service| &service.whole)),
            all: Limits::of(&limits.all),
        };
        let unknown = || RuleAt {
            id: "builtin/malformed-name".to_owned(),
            name: "No host name".to_owned(),
            pattern: None,
            place: None,
        };
        Explanation {
            decision: self.decision,
            reason: self.reason.map(Reason::as_str),
            would_refuse: self.would_refuse.map(|(reason, _)| reason.as_str()),
            observe_until: self.would_refuse.map(|(_, until)| until.to_string()),
            rule: self.rule.unwrap_or_else(unknown),
            client: client.ip(),
            group: self.group,
            destination: destination.to_owned(),
            detail: self.detail,
            headers_set: self.headers,
            limits,
        }
    }
}

impl Explanation {
    fn to_text(&self) -> String {
        let mut out = String::new();
        let mut row = |name: &str, value: &str| {
            // Writing to a String cannot fail.
            let _ = writeln!(out, "{name:<13} {value}");
        };
        row("decision", &self.reason.map_or_else(|| self.decision.to_owned(), |reason| format!("deny ({reason})")));
        if let (Some(reason), Some(until)) = (self.would_refuse, &self.observe_until) {
            row("OBSERVING", &format!("only because of enforcement = \"observe\"; from {until} on: deny ({reason})"));
        }
        row("destination", &self.destination);
        let client = match (&self.group, self.reason) {
            (Some(group), _) => format!("{} ({group})", self.client),
            (None, Some("client_not_permitted")) => format!("{} (in no [[clients]] network)", self.client),
            (None, _) => self.client.to_string(),
        };
        row("client", &client);
        row("rule", &format!("{} {}", self.rule.id, self.rule.name));
        if let (Some(pattern), Some(place)) = (&self.rule.pattern, &self.rule.place) {
            row("matched", &format!("{pattern} at {place}"));
        }
        if let Some(detail) = &self.detail {
            row("detail", detail);
        }
        if !self.headers_set.is_empty() {
            row("headers set", &self.headers_set.join(", "));
        }
        let LimitsThatApply { client, group, service, all } = &self.limits;
        let whose = [("this client", Some(client)), ("its group", group.as_ref()), ("the service", service.as_ref())];
        let whose = whose.into_iter().chain([("all", Some(all))]);
        for (n, (whose, limits)) in whose.filter_map(|(whose, limits)| Some((whose, limits?))).enumerate() {
            row(if n == 0 { "limits" } else { "" }, &format!("{whose}: {}", limits.in_words.join(", ")));
        }
        out
    }
}
