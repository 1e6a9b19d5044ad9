//! L2, Hatchet engine. Where the engine is, who we are to it, and how patiently it is used, as plain data.

use super::{
    HatchetLabel, HatchetTaskOptions, invalid,
    token::{Claims, Token},
};
use crate::error::Result;
use std::{collections::BTreeMap, env, fmt, fs, path::Path, sync::Arc, time::Duration};
use tonic::{
    codegen::http::Uri,
    transport::{Certificate, ClientTlsConfig, Endpoint, Identity},
};

/// How often a connection is tried, and how long the answer may take. The engine refuses those who try it more often than
/// every 5 s; and it gives the runs of a worker to others, some into a dead connection, 30 s after its last heartbeat. By then a
/// new connection has to stand.
const KEEP_ALIVE: Duration = Duration::from_secs(6);
const ALIVE_WITHIN: Duration = Duration::from_secs(8);
/// What the engine takes and sends at most unless it is told otherwise.
const MAX_MESSAGE: usize = 4 << 20;

/// A Hatchet engine and the tenant in it, as the token names them.
///
/// Made from the variables that the official SDKs read, or by a builder. Nothing is connected before
/// [`connect`](Self::connect).
///
/// | variable | method | what it is |
/// |---|---|---|
/// | `HATCHET_CLIENT_TOKEN` | [`token`](HatchetClientBuilder::token) | the token; needed |
/// | `HATCHET_CLIENT_HOST_PORT` | [`host_port`](HatchetClientBuilder::host_port) | where the engine is; default: what the token says |
/// | `HATCHET_CLIENT_SERVER_URL` | [`server_url`](HatchetClientBuilder::server_url) | where its REST API is; default: what the token says |
/// | `HATCHET_CLIENT_NAMESPACE` | [`namespace`](HatchetClientBuilder::namespace) | what names begin with; default: nothing |
/// | `HATCHET_CLIENT_TLS_STRATEGY` | [`tls_strategy`](HatchetClientBuilder::tls_strategy) | `none`, `tls` or `mtls`; default: `tls` |
/// | `HATCHET_CLIENT_TLS_ROOT_CA_FILE` | [`tls_root_ca_file`](HatchetClientBuilder::tls_root_ca_file) | authorities to trust; default: the system's |
/// | `HATCHET_CLIENT_TLS_CERT_FILE` | [`tls_cert_file`](HatchetClientBuilder::tls_cert_file) | our certificate, for `mtls` |
/// | `HATCHET_CLIENT_TLS_KEY_FILE` | [`tls_key_file`](HatchetClientBuilder::tls_key_file) | its key, for `mtls` |
/// | `HATCHET_CLIENT_TLS_SERVER_NAME` | [`tls_server_name`](HatchetClientBuilder::tls_server_name) | whose certificate is expected; default: the host's |
///
/// A variable that is empty counts as one that is not set.
///
/// ```
/// use mageflow::adapters::hatchet::{HatchetClient, HatchetTls};
///
/// # let token = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiI3MDdkMDg1NSJ9.c2lnbmF0dXJl";
/// let client = HatchetClient::builder()
///     .token(token)
///     .host_port("localhost:7077")
///     .tls_strategy(HatchetTls::None)
///     .build()?;
/// assert_eq!(client.tenant(), "707d0855");
/// # Ok::<(), mageflow::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct HatchetClient {
    pub(super) token: Token,
    pub(super) claims: Claims,
    pub(super) host_port: String,
    pub(super) server_url: Option<String>,
    pub(super) namespace: Namespace,
    pub(super) endpoint: Endpoint,
    pub(super) strategy: HatchetTls,
    pub(super) response_timeout: Duration,
    pub(super) max_message: usize,
    /// PEM text of the authorities to trust instead of the system's.
    pub(super) root_ca: Option<Arc<[u8]>>,
    pub(super) task_options: BTreeMap<String, HatchetTaskOptions>,
    pub(super) labels: BTreeMap<String, HatchetLabel>,
}

/// How the connection to the engine is secured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HatchetTls {
    /// Not at all.
    None,
    /// The engine shows a certificate.
    #[default]
    Tls,
    /// Both sides show a certificate.
    Mtls,
}

impl HatchetClient {
    /// Settings from the variables of the environment that the official SDKs read; see the table above.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`](crate::Error::InvalidConfig), which names the variable and never repeats the token.
    pub fn from_env() -> Result<Self> {
        HatchetClientBuilder::from_variables(|name| match env::var(name) {
            Ok(value) => Ok(Some(value)),
            Err(env::VarError::NotPresent) => Ok(None),
            Err(env::VarError::NotUnicode(_)) => Err(invalid(format!("`{name}` is not text"))),
        })?
        .build()
    }

    /// Settings from something else that knows those variables.
    pub(crate) fn from_variables(read: impl Fn(&'static str) -> Option<String>) -> Result<Self> {
        HatchetClientBuilder::from_variables(|name| Ok(read(name)))?.build()
    }

    /// Settings made by hand. Reads no variables.
    pub fn builder() -> HatchetClientBuilder {
        HatchetClientBuilder::default()
    }

    /// What the engine does for the task of this name besides what its own options say. Counts wherever the task is
    /// registered or sent from; all processes have to say the same.
    pub fn task_options(mut self, task: impl Into<String>, options: HatchetTaskOptions) -> Self {
        self.task_options.insert(task.into(), options);
        self
    }

    /// A label of the workers that are started with this client, for tasks that
    /// [desire](HatchetTaskOptions::desired_label) it.
    pub fn worker_label(mut self, key: impl Into<String>, label: impl Into<HatchetLabel>) -> Self {
        self.labels.insert(key.into(), label.into());
        self
    }

    /// The id of the tenant whose token this is.
    pub fn tenant(&self) -> &str {
        &self.claims.tenant
    }

    /// Where the engine is: host and port.
    pub fn host_port(&self) -> &str {
        &self.host_port
    }

    /// Where its REST API is, if that is known.
    pub fn server_url(&self) -> Option<&str> {
        self.server_url.as_deref()
    }

    /// A name of a workflow or of an event, with the namespace in front of it.
    pub fn namespaced(&self, name: &str) -> String {
        self.namespace.apply(name)
    }
}

/// What names begin with: empty, or lower case with `_` at its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Namespace(String);

impl Namespace {
    fn parse(text: &str) -> std::result::Result<Self, &'static str> {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if !text.chars().all(fits) {
            return Err("may have only letters, digits, `.`, `-` and `_`");
        }
        let mut name = text.to_ascii_lowercase();
        if !name.is_empty() && !name.ends_with('_') {
            name.push('_');
        }
        Ok(Self(name))
    }

    pub(super) fn apply(&self, name: &str) -> String {
        if name.starts_with(&self.0) { name.to_owned() } else { format!("{}{name}", self.0) }
    }
}

/// A setting that a variable of the environment can have too.
#[derive(Clone, Copy)]
enum Setting {
    Token,
    HostPort,
    ServerUrl,
    Namespace,
    TlsStrategy,
    TlsRootCaFile,
    TlsCertFile,
    TlsKeyFile,
    TlsServerName,
}

impl Setting {
    fn variable(self) -> &'static str {
        match self {
            Self::Token => "HATCHET_CLIENT_TOKEN",
            Self::HostPort => "HATCHET_CLIENT_HOST_PORT",
            Self::ServerUrl => "HATCHET_CLIENT_SERVER_URL",
            Self::Namespace => "HATCHET_CLIENT_NAMESPACE",
            Self::TlsStrategy => "HATCHET_CLIENT_TLS_STRATEGY",
            Self::TlsRootCaFile => "HATCHET_CLIENT_TLS_ROOT_CA_FILE",
            Self::TlsCertFile => "HATCHET_CLIENT_TLS_CERT_FILE",
            Self::TlsKeyFile => "HATCHET_CLIENT_TLS_KEY_FILE",
            Self::TlsServerName => "HATCHET_CLIENT_TLS_SERVER_NAME",
        }
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.variable())
    }
}

/// Makes a [`HatchetClient`]; the table there says what each setting is. What is wrong with them is told by
/// [`build`](Self::build), which calls them by the names of the variables.
#[derive(Clone, Debug, Default)]
pub struct HatchetClientBuilder {
    token: Option<Token>,
    host_port: Option<String>,
    server_url: Option<String>,
    namespace: Option<String>,
    strategy: HatchetTls,
    root_ca_file: Option<String>,
    cert_file: Option<String>,
    key_file: Option<String>,
    server_name: Option<String>,
    limits: Limits,
}

#[derive(Clone, Debug)]
struct Limits {
    connect: Duration,
    response: Duration,
    message: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connect: Duration::from_secs(3), response: Duration::from_secs(30), message: MAX_MESSAGE }
    }
}

impl HatchetClientBuilder {
    fn from_variables(read: impl Fn(&'static str) -> Result<Option<String>>) -> Result<Self> {
        let get = |setting: Setting| -> Result<Option<String>> {
            Ok(read(setting.variable())?.filter(|value| !value.is_empty()))
        };
        let strategy = match get(Setting::TlsStrategy)?.as_deref() {
            Some("none") => HatchetTls::None,
            None | Some("tls") => HatchetTls::Tls,
            Some("mtls") => HatchetTls::Mtls,
            Some(other) => {
                return Err(invalid(format!("{} is {other:?}; it can be none, tls or mtls", Setting::TlsStrategy)));
            }
        };
        Ok(Self {
            token: get(Setting::Token)?.map(Token::new),
            host_port: get(Setting::HostPort)?,
            server_url: get(Setting::ServerUrl)?,
            namespace: get(Setting::Namespace)?,
            strategy,
            root_ca_file: get(Setting::TlsRootCaFile)?,
            cert_file: get(Setting::TlsCertFile)?,
            key_file: get(Setting::TlsKeyFile)?,
            server_name: get(Setting::TlsServerName)?,
            limits: Limits::default(),
        })
    }

    /// The token that Hatchet gave out.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(Token::new(token));
        self
    }

    /// Where the engine is, as `host:port`. Defaults to what the token says.
    pub fn host_port(mut self, host_port: impl Into<String>) -> Self {
        self.host_port = Some(host_port.into());
        self
    }

    /// Where its REST API is. Defaults to what the token says.
    pub fn server_url(mut self, url: impl Into<String>) -> Self {
        self.server_url = Some(url.into());
        self
    }

    /// What the names of workflows, events and workers begin with, in lower case and with a `_` behind it. Defaults to
    /// nothing.
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = Some(namespace.into());
        self
    }

    /// How the connection is secured. Defaults to TLS with the engine's certificate only.
    pub fn tls_strategy(mut self, strategy: HatchetTls) -> Self {
        self.strategy = strategy;
        self
    }

    /// A PEM file with the authorities to trust instead of the system's.
    pub fn tls_root_ca_file(mut self, path: impl Into<String>) -> Self {
        self.root_ca_file = Some(path.into());
        self
    }

    /// A PEM file with our certificate, for [`HatchetTls::Mtls`].
    pub fn tls_cert_file(mut self, path: impl Into<String>) -> Self {
        self.cert_file = Some(path.into());
        self
    }

    /// A PEM file with the key of our certificate, for [`HatchetTls::Mtls`].
    pub fn tls_key_file(mut self, path: impl Into<String>) -> Self {
        self.key_file = Some(path.into());
        self
    }

    /// Whose certificate the engine has to show. Defaults to the host in [`host_port`](Self::host_port).
    pub fn tls_server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// How long a connection may take to come about. Defaults to 3 s.
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.limits.connect = limit;
        self
    }

    /// How long an answer may take before its call has failed. Defaults to 30 s.
    pub fn response_timeout(mut self, limit: Duration) -> Self {
        self.limits.response = limit;
        self
    }

    /// The size of the largest message, in bytes: the engine's `SERVER_GRPC_MAX_MSG_SIZE`. Defaults to 4 MiB.
    pub fn max_message_size(mut self, bytes: usize) -> Self {
        self.limits.message = bytes;
        self
    }

    /// The client.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`](crate::Error::InvalidConfig), which names the setting and never repeats the token. A file
    /// that cannot be read is such an error too.
    pub fn build(self) -> Result<HatchetClient> {
        let about = |setting: Setting, what: &str| invalid(format!("{setting} {what}"));
        let token =
            self.token.clone().ok_or_else(|| about(Setting::Token, "is not set; `hatchet token create` makes one"))?;
        let claims = token.claims().map_err(|what| about(Setting::Token, what))?;
        if !token.reveal().bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(about(Setting::Token, "is not a token: it has characters that none has"));
        }
        let host_port = self.host_port.clone().or_else(|| claims.host_port.clone());
        let host_port = host_port
            .ok_or_else(|| about(Setting::HostPort, "is not set, and the token does not say where the engine is"))?;
        let scheme = if self.strategy == HatchetTls::None { "http" } else { "https" };
        let uri = uri(scheme, &host_port).ok_or_else(|| {
            about(
                Setting::HostPort,
                &format!("is {host_port:?}; a host and a port are expected, such as localhost:7077"),
            )
        })?;
        let server_url = self.server_url.clone().or_else(|| claims.server_url.clone());
        if server_url.as_deref().is_some_and(|url| !is_http(url)) {
            return Err(about(Setting::ServerUrl, "is not a URL that begins with http:// or https://"));
        }
        let namespace = self.namespace.as_deref().unwrap_or_default();
        let namespace = Namespace::parse(namespace).map_err(|what| about(Setting::Namespace, what))?;
        let endpoint = self.endpoint(uri)?;
        let root_ca = match (&self.root_ca_file, self.strategy) {
            (Some(path), HatchetTls::Tls | HatchetTls::Mtls) => Some(pem(Setting::TlsRootCaFile, path)?.into()),
            _ => None,
        };
        let (response_timeout, max_message) = (self.limits.response, self.limits.message);
        let strategy = self.strategy;
        Ok(HatchetClient {
            token,
            claims,
            host_port,
            server_url,
            namespace,
            endpoint,
            strategy,
            response_timeout,
            max_message,
            root_ca,
            task_options: BTreeMap::new(),
            labels: BTreeMap::new(),
        })
    }

    fn endpoint(&self, uri: Uri) -> Result<Endpoint> {
        for (name, limit) in [("connect_timeout", self.limits.connect), ("response_timeout", self.limits.response)] {
            if limit.is_zero() {
                return Err(invalid(format!("`{name}` must not be zero")));
            }
        }
        let endpoint = Endpoint::from(uri)
            .connect_timeout(self.limits.connect)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(ALIVE_WITHIN)
            .keep_alive_while_idle(true);
        match self.tls()? {
            None => Ok(endpoint),
            Some(tls) => endpoint.tls_config(tls).map_err(|error| {
                invalid(format!("the certificates cannot be used: {}", super::wire::calls::reasons(&error)))
            }),
        }
    }

    fn tls(&self) -> Result<Option<ClientTlsConfig>> {
        if self.strategy == HatchetTls::None {
            return Ok(None);
        }
        let mut tls = match &self.root_ca_file {
            None => ClientTlsConfig::new().with_native_roots(),
            Some(path) => {
                ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem(Setting::TlsRootCaFile, path)?))
            }
        };
        if let Some(name) = &self.server_name {
            tls = tls.domain_name(name);
        }
        if self.strategy == HatchetTls::Mtls {
            let file = |setting: Setting, path: &Option<String>| match path {
                None => Err(invalid(format!("{setting} is not set; {} is mtls", Setting::TlsStrategy))),
                Some(path) => pem(setting, path),
            };
            let certificate = file(Setting::TlsCertFile, &self.cert_file)?;
            tls = tls.identity(Identity::from_pem(certificate, file(Setting::TlsKeyFile, &self.key_file)?));
        }
        Ok(Some(tls))
    }
}

/// Where this is, unless something else than a host and a port is there.
fn uri(scheme: &str, host_port: &str) -> Option<Uri> {
    let uri: Uri = format!("{scheme}://{host_port}").parse().ok()?;
    let authority = uri.authority()?;
    let port = authority.port_u16()?;
    (port != 0 && authority.as_str() == host_port && !host_port.contains('@') && !authority.host().is_empty())
        .then_some(uri)
}

fn is_http(url: &str) -> bool {
    url.parse::<Uri>().is_ok_and(|uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some())
}

fn pem(setting: Setting, path: &str) -> Result<Vec<u8>> {
    let text = fs::read(Path::new(path))
        .map_err(|error| invalid(format!("{setting} names the file {path}, which cannot be read: {error}")))?;
    if text.windows(10).any(|part| part == b"-----BEGIN") {
        Ok(text)
    } else {
        Err(invalid(format!("{setting} names the file {path}, which is not a PEM file")))
    }
}

#[cfg(test)]
mod tests;
