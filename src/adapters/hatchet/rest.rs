//! L2, Hatchet engine. The few things that only the engine's REST API can do: pausing a worker, finding what was sent with an
//! id of ours, schedules and times.

use super::{HatchetClient, invalid, wire::own::OWN_ID};
use crate::error::Result;
use chrono::{DateTime, SecondsFormat, Utc};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Method, Request, StatusCode,
    body::Bytes,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue},
};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use std::{fmt, sync::Arc, time::Duration};
use tonic::Status;

/// All but what stands for itself in a URL: the server does not decode ids.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(5);
/// What the engine adds to the metadata of a child.
const PARENT: &str = "hatchet__parent_workflow_run_id";
/// How many runs of one id are looked at with one call.
const PAGE: usize = 100;

/// The client of the REST API. Clones share its connections.
#[derive(Clone)]
pub(super) struct Rest {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    base: Option<Arc<str>>,
    authorization: HeaderValue,
    tenant: Arc<str>,
    max_answer: usize,
}

/// A list of things of which only the ids matter.
#[derive(Deserialize)]
struct Rows {
    #[serde(default)]
    rows: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    metadata: Metadata,
    #[serde(default, rename = "additionalMetadata")]
    sent: Option<Value>,
}

impl Row {
    /// Whether another run started it.
    fn is_child(&self) -> bool {
        self.sent.as_ref().is_some_and(|sent| sent.get(PARENT).is_some())
    }
}

#[derive(Deserialize)]
struct Metadata {
    id: String,
}

#[derive(Deserialize)]
struct Workflows {
    #[serde(default)]
    rows: Option<Vec<Named>>,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

/// What happened to a task.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TaskEvent {
    pub(super) event_type: String,
    pub(super) timestamp: DateTime<Utc>,
    #[serde(default)]
    pub(super) retry_count: u32,
}

#[derive(Deserialize)]
struct TaskEvents {
    #[serde(default)]
    rows: Option<Vec<TaskEvent>>,
}

impl Rest {
    pub(super) fn new(client: &HatchetClient) -> Result<Self> {
        let connector = match &client.root_ca {
            None => HttpsConnectorBuilder::new()
                .with_provider_and_native_roots(rustls::crypto::ring::default_provider())
                .map_err(|error| invalid(format!("the system's certificates cannot be read: {error}")))?,
            Some(pem) => HttpsConnectorBuilder::new().with_tls_config(trusting(pem)?),
        };
        let mut authorization = HeaderValue::from_str(&format!("Bearer {}", client.token.reveal()))
            .map_err(|_| invalid("`HATCHET_CLIENT_TOKEN` is not a token"))?;
        authorization.set_sensitive(true);
        Ok(Self {
            client: Client::builder(TokioExecutor::new()).build(connector.https_or_http().enable_http1().build()),
            base: client.server_url().map(|url| url.trim_end_matches('/').into()),
            authorization,
            tenant: client.tenant().into(),
            max_answer: client.max_message,
        })
    }

    async fn call<A: DeserializeOwned>(&self, method: Method, path: &str, body: Option<Value>) -> Result<A, Status> {
        let base = self.base.as_deref().ok_or_else(|| {
            Status::failed_precondition("`HATCHET_CLIENT_SERVER_URL` is not set, and the token does not say it")
        })?;
        let mut request = Request::builder().method(method).uri(format!("{base}{path}"));
        request = request.header(AUTHORIZATION, self.authorization.clone());
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let body = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
        let request =
            request.body(Full::new(body)).map_err(|error| Status::invalid_argument(format!("{base}: {error}")))?;
        let answered = async {
            let answer = self.client.request(request).await.map_err(|error| Status::from_error(Box::new(error)))?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), self.max_answer).collect().await;
            Ok::<_, Status>((status, body.map_err(Status::from_error)?.to_bytes()))
        };
        let answered = tokio::time::timeout(LIMIT, answered).await;
        let (status, body) =
            answered.map_err(|_| Status::deadline_exceeded(format!("no answer within {LIMIT:?}")))??;
        if !status.is_success() {
            return Err(refused(status, &body));
        }
        let body: &[u8] = if body.is_empty() { b"null" } else { &body };
        serde_json::from_slice(body).map_err(|error| Status::internal(format!("an answer cannot be read: {error}")))
    }

    /// Keeps the engine from giving the worker anything more.
    pub(super) async fn pause(&self, worker: &str) -> Result<(), Status> {
        let path = format!("/api/v1/workers/{}", encoded(worker));
        self.call::<Value>(Method::PATCH, &path, Some(json!({"isPaused": true}))).await.map(drop)
    }

    /// Whether there is a workflow of this name.
    pub(super) async fn has_workflow(&self, name: &str) -> Result<bool, Status> {
        let path = format!("/api/v1/tenants/{}/workflows?limit=100&name={}", self.tenant, encoded(name));
        // Names that begin so are found too.
        let found: Workflows = self.call(Method::GET, &path, None).await?;
        Ok(found.rows.unwrap_or_default().iter().any(|workflow| workflow.name == name))
    }

    /// The run that was sent with this id, if it has started to wait for a worker. Known some time after it did.
    ///
    /// The official SDKs give the id of a run to its children, too.
    pub(super) async fn run_with(&self, id: &str, since: DateTime<Utc>) -> Result<Option<String>, Status> {
        let mut offset = 0;
        loop {
            let path = format!(
                "/api/v1/stable/tenants/{}/workflow-runs?since={}&only_tasks=false&include_payloads=false&\
                 limit={PAGE}&offset={offset}&{}",
                self.tenant,
                encoded(&since.to_rfc3339_opts(SecondsFormat::Millis, true)),
                with_id("additional_metadata", id),
            );
            let Rows { rows } = self.call(Method::GET, &path, None).await?;
            let found = rows.len();
            match rows.into_iter().find(|row| !row.is_child()) {
                Some(row) => return Ok(Some(row.metadata.id)),
                None if found < PAGE => return Ok(None),
                None => offset += found,
            }
        }
    }

    /// The schedule with this id, as long as its time has not come.
    pub(super) async fn schedule_with(&self, id: &str) -> Result<Option<String>, Status> {
        let tenant = &self.tenant;
        let filter = with_id("additionalMetadata", id);
        let path = format!("/api/v1/tenants/{tenant}/workflows/scheduled?limit=1&{filter}");
        let found: Rows = self.call(Method::GET, &path, None).await?;
        Ok(found.rows.into_iter().next().map(|row| row.metadata.id))
    }

    /// Takes a schedule back. `NOT_FOUND` once its time has come.
    pub(super) async fn delete_schedule(&self, schedule: &str) -> Result<(), Status> {
        let path = format!("/api/v1/tenants/{}/workflows/scheduled/{}", self.tenant, encoded(schedule));
        self.call::<Value>(Method::DELETE, &path, None).await.map(drop)
    }

    /// What happened to a task so far, as far as the engine's log has it.
    pub(super) async fn events_of(&self, task_run: &str) -> Result<Vec<TaskEvent>, Status> {
        let path = format!("/api/v1/stable/tasks/{}/task-events?limit=1000&offset=0", encoded(task_run));
        let events: TaskEvents = self.call(Method::GET, &path, None).await?;
        Ok(events.rows.unwrap_or_default())
    }

    /// Has the engine start a workflow again and again. The id is that of the schedule.
    pub(super) async fn create_cron(&self, workflow: &str, cron: Value) -> Result<String, Status> {
        let path = format!("/api/v1/tenants/{}/workflows/{}/crons", self.tenant, encoded(workflow));
        let created: Row = self.call(Method::POST, &path, Some(cron)).await?;
        Ok(created.metadata.id)
    }

    pub(super) async fn delete_cron(&self, cron: &str) -> Result<(), Status> {
        let path = format!("/api/v1/tenants/{}/workflows/crons/{}", self.tenant, encoded(cron));
        self.call::<Value>(Method::DELETE, &path, None).await.map(drop)
    }
}

fn trusting(pem: &[u8]) -> Result<ClientConfig> {
    let unusable = |error: &dyn fmt::Display| invalid(format!("the certificates cannot be used: {error}"));
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| unusable(&error))?;
        roots.add(certificate).map_err(|error| unusable(&error))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    Ok(config.map_err(|error| unusable(&error))?.with_root_certificates(roots).with_no_client_auth())
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, ENCODED).to_string()
}

fn with_id(parameter: &str, id: &str) -> String {
    format!("{parameter}={}", encoded(&format!("{OWN_ID}:{id}")))
}

/// What an answer means, in the words of the other services.
fn refused(status: StatusCode, body: &[u8]) -> Status {
    let text: String = String::from_utf8_lossy(body).chars().take(500).collect();
    let said = format!("{status}: {text}");
    match status {
        StatusCode::BAD_REQUEST => Status::invalid_argument(said),
        StatusCode::UNAUTHORIZED => Status::unauthenticated(said),
        StatusCode::FORBIDDEN => Status::permission_denied(said),
        StatusCode::NOT_FOUND => Status::not_found(said),
        StatusCode::TOO_MANY_REQUESTS => Status::resource_exhausted(said),
        _ => Status::unavailable(said),
    }
}

impl fmt::Debug for Rest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rest").field("base", &self.base).finish_non_exhaustive()
    }
}
