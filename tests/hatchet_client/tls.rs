//! An engine that takes only TLS, and only clients with a certificate of its authority.

use super::{refusal, run_until, unique, variable};
use mageflow::{
    Error,
    adapters::hatchet::{
        HatchetClient, HatchetClientBuilder, HatchetTask, HatchetTls, HatchetTrigger, HatchetWorkflow,
    },
};
use serde_json::json;
use tokio::net::TcpListener;

struct Engine {
    token: String,
    host_port: String,
    files: String,
}

impl Engine {
    fn of_this_environment() -> Option<Self> {
        Some(Self {
            token: variable("MAGEFLOW_HATCHET_MTLS_TOKEN")?,
            host_port: variable("MAGEFLOW_HATCHET_MTLS_HOST_PORT")?,
            files: variable("MAGEFLOW_HATCHET_MTLS_FILES")?,
        })
    }

    fn file(&self, name: &str) -> String {
        format!("{}/{name}", self.files)
    }

    /// Trusts the engine's authority, and shows nothing.
    fn trusting(&self) -> HatchetClientBuilder {
        HatchetClient::builder()
            .token(&self.token)
            .host_port(&self.host_port)
            .tls_strategy(HatchetTls::Tls)
            .tls_root_ca_file(self.file("ca.crt"))
    }

    /// Shows a certificate of the engine's authority, too.
    fn known(&self) -> HatchetClientBuilder {
        self.trusting()
            .tls_strategy(HatchetTls::Mtls)
            .tls_cert_file(self.file("client.crt"))
            .tls_key_file(self.file("client.key"))
    }
}

#[tokio::test]
async fn a_client_with_a_certificate_is_let_in() {
    let Some(engine) = Engine::of_this_environment() else { return };
    let connection = engine.known().build().unwrap().connect().await.unwrap();
    let name = unique("secured");
    connection.put_workflow(&HatchetWorkflow::new(&name).task(HatchetTask::new("step"))).await.unwrap();
    let id = connection.trigger(&HatchetTrigger::new(&name, json!({}))).await.unwrap();
    run_until(&connection, &id, |_| true).await;
}

#[tokio::test]
async fn another_name_of_the_server_may_be_expected() {
    let Some(engine) = Engine::of_this_environment() else { return };
    engine.known().tls_server_name("localhost").build().unwrap().connect().await.unwrap();
    let error = refusal(engine.known().tls_server_name("elsewhere").build().unwrap()).await;
    assert!(error.to_string().contains("elsewhere"), "{error}");
}

#[tokio::test]
async fn a_client_without_a_certificate_is_not_let_in() {
    let Some(engine) = Engine::of_this_environment() else { return };
    let error = refusal(engine.trusting().build().unwrap()).await;
    assert!(matches!(error, Error::Engine { .. }), "{error}");
}

#[tokio::test]
async fn a_server_of_an_unknown_authority_is_not_trusted() {
    let Some(engine) = Engine::of_this_environment() else { return };
    let system = HatchetClient::builder().token(&engine.token).host_port(&engine.host_port);
    let error = refusal(system.build().unwrap()).await;
    assert!(error.to_string().to_lowercase().contains("issuer"), "{error}");
}

#[tokio::test]
async fn nothing_is_sent_in_the_clear_to_an_engine_with_tls() {
    let Some(engine) = Engine::of_this_environment() else { return };
    // What answers here is no TLS, so all that may come is the client's first word.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let place = listener.local_addr().unwrap();
    let heard = tokio::spawn(async move {
        let (mut connection, _) = listener.accept().await.unwrap();
        let mut bytes = vec![0; 4096];
        let length = tokio::io::AsyncReadExt::read(&mut connection, &mut bytes).await.unwrap();
        bytes.truncate(length);
        bytes
    });
    refusal(engine.known().host_port(place.to_string()).build().unwrap()).await;
    // A handshake record of TLS.
    assert_eq!(heard.await.unwrap().first(), Some(&22));
    // And the engine itself does not understand one who speaks in the clear.
    let clear = engine.trusting().tls_strategy(HatchetTls::None).build().unwrap();
    assert!(matches!(refusal(clear).await, Error::Engine { .. }));
}
