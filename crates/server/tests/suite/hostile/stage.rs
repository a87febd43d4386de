//! The program that all hostile requests go to, who calls it, and what it has stored.

use super::probe::{MARK, Probe};
use super::wire::{Answer, Ask, exchange, shown};
use crate::harness::program::Program;
use crate::harness::receiver::Receiver;
use crate::harness::{PLATFORM_KEY, Partner, platform, verified};
use serde_json::{Value, json};
use std::net::SocketAddr;
use tempfile::TempDir;

/// The service with two partners, of which neither has a URL, so that nothing moves by itself.
pub(super) struct Stage {
    program: Program,
    folder: TempDir,
    _receiver: Receiver,
    /// Who calls.
    pub(super) partner: Partner,
    /// Who is none of the caller's business.
    pub(super) other: Partner,
    /// The key of a partner that is disabled.
    pub(super) disabled: String,
    /// A key of the partner that was revoked.
    pub(super) revoked: String,
    /// Platform keys: revoked, and of one scope each.
    pub(super) revoked_platform: String,
    pub(super) publish_only: String,
    pub(super) read_only: String,
    /// A notification of each of the two.
    pub(super) own: String,
    pub(super) foreign: String,
    /// The event that the partner published under the idempotency key `again`: to publish it anew stores nothing.
    pub(super) event: String,
}

impl Stage {
    pub(super) async fn begin() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let receiver = Receiver::start().await;
        let program = Program::serve_strictly(folder.path()).await;
        let address = program.address;
        let make = async |name: &str| Partner::make(address, receiver.endpoint(), json!({ "name": name })).await;
        let (partner, other, third) = (make("First").await, make("Second").await, make("Third").await);
        third.seen_by_platform("PATCH").json(&json!({"disabled": true})).send().await.data(200);

        let key = platform(address, "POST", &format!("partners/{}/api-keys", partner.id)).send().await.data(201);
        let path = format!("partners/{}/api-keys/{}", partner.id, text(&key, "id"));
        platform(address, "DELETE", &path).send().await.data(200);
        let make_key = async |scope: &str| {
            let asked = json!({"name": scope, "scopes": [scope]});
            platform(address, "POST", "platform-keys").json(&asked).send().await.data(201)
        };
        let (publish, read, gone) = (make_key("publish").await, make_key("read").await, make_key("admin").await);
        platform(address, "DELETE", &format!("platform-keys/{}", text(&gone, "id"))).send().await.data(200);

        let event = verified("u").to_string();
        let publish_to = async |partner: &Partner| {
            // Each partner's idempotency keys are its own.
            let reply = partner.publishing(event.clone()).header("idempotency-key", "again").send().await;
            text(&reply.data(202), "id")
        };
        let (own, foreign) = (publish_to(&partner).await, publish_to(&other).await);
        assert_ne!(own, foreign);
        Self {
            own,
            foreign,
            disabled: third.key,
            revoked: text(&key, "apiKey"),
            revoked_platform: text(&gone, "apiKey"),
            publish_only: text(&publish, "apiKey"),
            read_only: text(&read, "apiKey"),
            event,
            partner,
            other,
            program,
            folder,
            _receiver: receiver,
        }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.program.address
    }

    /// A call of the partner; `path` is what follows `/api/partner/`.
    pub(super) fn ask(&self, method: &str, path: &str) -> Ask {
        Ask::new(method, &format!("/api/partner/{path}")).with("partner-api-key", self.partner.key.as_str())
    }

    /// The same of the other partner.
    pub(super) fn ask_other(&self, method: &str, path: &str) -> Ask {
        Ask::new(method, &format!("/api/partner/{path}")).with("partner-api-key", self.other.key.as_str())
    }

    /// A call of the platform; `path` is what follows `/api/platform/v1/`.
    pub(super) fn ask_platform(&self, method: &str, path: &str) -> Ask {
        Ask::new(method, &format!("/api/platform/v1/{path}")).with("platform-api-key", PLATFORM_KEY)
    }

    /// A change of the partner's settings.
    pub(super) fn settings(&self) -> Ask {
        self.ask("PUT", "v2/webhook-settings")
    }

    /// A publish call, still without a body.
    pub(super) fn publishing(&self) -> Ask {
        self.ask_platform("POST", &format!("partners/{}/events", self.partner.id))
    }

    /// The publish call that may be repeated for ever and stores nothing more.
    pub(super) fn repeat(&self) -> Ask {
        self.publishing().with("idempotency-key", "again")
    }

    /// Sends each probe, and checks that the service goes on and that nothing was stored; gives what is wrong about the
    /// answers.
    pub(super) async fn judge(&self, group: &str, probes: Vec<Probe>) -> Vec<String> {
        let before = self.stored().await;
        let mut complaints = Vec::new();
        for probe in probes {
            let answers = exchange(self.address(), probe.bytes(), probe.way()).await;
            if let Some(complaint) = probe.complaint(&answers) {
                complaints.push(format!("{group}: {:?}\n    {complaint}\n", shown(probe.bytes())));
            }
            self.goes_on().await;
        }
        let after = self.stored().await;
        let changed = before.iter().zip(&after).filter(|(before, after)| before != after);
        complaints.extend(changed.map(|(before, after)| format!("{group}: stored was {before}\n    and is {after}\n")));
        complaints
    }

    /// A good request is answered well.
    pub(super) async fn goes_on(&self) {
        let bytes = self.repeat().json(self.event.as_str()).bytes();
        let answers = exchange(self.address(), &bytes, super::wire::Then::Wait).await;
        let [Answer { status: 200, body, .. }] = answers.as_slice() else { panic!("a good request got {answers:?}") };
        assert!(body.contains(&self.own), "{body}");
    }

    /// Everything that the API tells of what is stored.
    pub(super) async fn stored(&self) -> Vec<Value> {
        let mut all = Vec::new();
        for partner in [&self.partner, &self.other] {
            for path in ["webhook-settings", "webhook-notifications"] {
                all.push(partner.get(path).await.data(200));
            }
        }
        for path in ["partners", "platform-keys"] {
            all.push(platform(self.address(), "GET", path).send().await.data(200));
        }
        all
    }

    /// How many notifications the partner has.
    pub(super) async fn total(&self) -> u64 {
        self.partner.get("webhook-notifications").await.data(200)["total"].as_u64().unwrap()
    }

    /// Stops the program; its log holds no panic, no secret and no value, and what it stored is whole.
    pub(super) async fn end(mut self) {
        let log = self.program.terminate().await;
        let half = |key: &str| key.split(':').nth(1).unwrap().to_owned();
        let keys = [&self.partner.key, &self.other.key, &self.disabled, &self.revoked, &self.revoked_platform];
        let mut words: Vec<String> = keys.into_iter().map(|key| half(key)).collect();
        words.extend([half(PLATFORM_KEY), half(&self.publish_only), half(&self.read_only), MARK.to_owned()]);
        words.extend([self.partner.secret.clone(), self.other.secret.clone(), "panicked".to_owned()]);
        for word in words {
            let line = log.lines().find(|line| line.contains(&word));
            assert_eq!(line, None, "{word} stands in the log");
        }
        let errors: Vec<&str> = log.lines().filter(|line| line.contains(r#""level":"ERROR""#)).collect();
        assert!(errors.is_empty(), "nothing of this is a fault of ours: {errors:#?}");
        let doctor = std::process::Command::new(env!("CARGO_BIN_EXE_capa-webhooks"))
            .arg("doctor")
            .current_dir(self.folder.path())
            .env_clear()
            .envs(self.program.store.variables())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&doctor.stdout);
        assert!(doctor.status.success() && said.contains("All is well"), "{said}");
    }
}

fn text(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap().to_owned()
}
