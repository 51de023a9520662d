//! A provider that misbehaves on order, for tests and drills.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::sync::watch;

use crate::{
    algorithm::Signature,
    error::KeyError,
    health::Health,
    id::KeyId,
    provider::{
        AuditGap, AuditLine, Capabilities, CreateKey, DisableOutcome, KeyInfo, KeyProvider, Purpose,
    },
};

/// How signing misbehaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Not at all.
    None,
    /// The answer comes this much later: the key is used after the delay.
    Delay(Duration),
    /// The key is not used, and the answer is [`KeyError::Unavailable`] with this reason.
    Fail(String),
    /// The key is used, and the answer is [`KeyError::Unavailable`] with this reason all the same.
    LoseAnswer(String),
    /// No answer until another fault is set, which then holds for the waiting call.
    Hang,
}

/// Sets the fault of a [`FaultyProvider`] from outside. Copies set the same one.
#[derive(Clone, Debug)]
pub struct FaultSwitch {
    fault: Arc<watch::Sender<Fault>>,
    hanging: Arc<watch::Sender<usize>>,
}

impl Default for FaultSwitch {
    /// No fault.
    fn default() -> Self {
        Self {
            fault: Arc::new(watch::Sender::new(Fault::None)),
            hanging: Arc::new(watch::Sender::new(0)),
        }
    }
}

impl FaultSwitch {
    /// From now on, and for calls that hang, `fault` holds.
    pub fn set(&self, fault: Fault) {
        self.fault.send_replace(fault);
    }

    /// The fault that holds now.
    pub fn get(&self) -> Fault {
        self.fault.borrow().clone()
    }

    /// Returns once a signing call hangs in the provider: from then on the key is asked for, and not yet used. Never returns when the provider is gone.
    pub async fn until_a_signature_hangs(&self) {
        let mut hanging = self.hanging.subscribe();
        if hanging.wait_for(|calls| *calls > 0).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// One signing call that hangs; counted until it goes on, or its caller gives up.
struct HangingCall<'a>(&'a watch::Sender<usize>);

impl<'a> HangingCall<'a> {
    fn counted(calls: &'a watch::Sender<usize>) -> Self {
        calls.send_modify(|count| *count += 1);
        Self(calls)
    }
}

impl Drop for HangingCall<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

/// Passes everything to another provider, and misbehaves in [`KeyProvider::sign`] and [`KeyProvider::probe`].
pub struct FaultyProvider {
    inner: Arc<dyn KeyProvider>,
    fault: watch::Receiver<Fault>,
    hanging: Arc<watch::Sender<usize>>,
}

impl FaultyProvider {
    /// Wraps `inner`, without a fault at first.
    pub fn new(inner: Arc<dyn KeyProvider>) -> (Self, FaultSwitch) {
        let switch = FaultSwitch::default();
        (Self::under(inner, &switch), switch)
    }

    /// Wraps `inner` under a switch that there is already.
    pub fn under(inner: Arc<dyn KeyProvider>, switch: &FaultSwitch) -> Self {
        Self {
            inner,
            fault: switch.fault.subscribe(),
            hanging: Arc::clone(&switch.hanging),
        }
    }

    /// The fault that holds now, or after hanging; `hangs` is called each time that a hang begins or goes on.
    async fn fault_in_force(&self, mut hangs: impl FnMut() + Send) -> Fault {
        let mut receiver = self.fault.clone();
        let in_force = receiver
            .wait_for(|fault| {
                let is_hanging = *fault == Fault::Hang;
                if is_hanging {
                    hangs();
                }
                !is_hanging
            })
            .await
            .ok()
            .map(|fault| fault.clone());
        match in_force {
            Some(fault) => fault,
            // The switch is gone while hanging: nobody can end the fault any more.
            None => std::future::pending().await,
        }
    }
}

#[async_trait]
impl KeyProvider for FaultyProvider {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn create(&self, key: &CreateKey) -> Result<KeyInfo, KeyError> {
        self.inner.create(key).await
    }

    async fn info(&self, id: &KeyId) -> Result<KeyInfo, KeyError> {
        self.inner.info(id).await
    }

    async fn list(&self) -> Result<Vec<KeyInfo>, KeyError> {
        self.inner.list().await
    }

    async fn sign(
        &self,
        id: &KeyId,
        purpose: Purpose,
        message: &[u8],
    ) -> Result<Signature, KeyError> {
        let mut call = None;
        let fault = self
            .fault_in_force(|| {
                call.get_or_insert_with(|| HangingCall::counted(&self.hanging));
            })
            .await;
        drop(call);
        match fault {
            Fault::None | Fault::Hang => {}
            Fault::Delay(delay) => tokio::time::sleep(delay).await,
            Fault::Fail(reason) => return Err(KeyError::Unavailable { reason }),
            Fault::LoseAnswer(reason) => {
                self.inner.sign(id, purpose, message).await?;
                return Err(KeyError::Unavailable { reason });
            }
        }
        self.inner.sign(id, purpose, message).await
    }

    async fn disable(&self, id: &KeyId) -> Result<DisableOutcome, KeyError> {
        self.inner.disable(id).await
    }

    async fn destroy(&self, id: &KeyId) -> Result<DisableOutcome, KeyError> {
        self.inner.destroy(id).await
    }

    async fn restore(&self, id: &KeyId) -> Result<KeyInfo, KeyError> {
        self.inner.restore(id).await
    }

    async fn audit_after(&self, cursor: u64, limit: usize) -> Result<Vec<AuditLine>, KeyError> {
        self.inner.audit_after(cursor, limit).await
    }

    async fn audit_gaps(&self, patience: Duration) -> Result<Vec<AuditGap>, KeyError> {
        self.inner.audit_gaps(patience).await
    }

    fn sealing_providers(&self) -> Vec<String> {
        self.inner.sealing_providers()
    }

    fn capabilities_of(&self, provider: &str) -> Result<Capabilities, KeyError> {
        self.inner.capabilities_of(provider)
    }

    fn health(&self, provider: &str) -> Result<Health, KeyError> {
        self.inner.health(provider)
    }

    /// Misbehaves as signing does, so that a probe finds what a use would.
    async fn probe(&self, provider: &str) -> Result<(), KeyError> {
        match self.fault_in_force(|| ()).await {
            Fault::None | Fault::Hang => {}
            Fault::Delay(delay) => tokio::time::sleep(delay).await,
            Fault::Fail(reason) | Fault::LoseAnswer(reason) => {
                return Err(KeyError::Unavailable { reason });
            }
        }
        self.inner.probe(provider).await
    }
}
