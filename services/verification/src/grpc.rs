//! The `Verification` service. Every role may call it.

use std::pin::Pin;
use std::sync::Arc;

use futures_util::{Stream, StreamExt as _};
use sealwarden_pki::caller_of;
use sealwarden_wire::verify::v1::verification_server::Verification;
use sealwarden_wire::verify::v1::{
    GetTrustRequest, GetTrustResponse, VerifyRequest, VerifyResponse,
};
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status, Streaming};

use crate::verify::{Refused, Verifying};

/// How many requests of one stream are worked on at once.
const IN_STREAM: usize = 16;

pub(crate) struct VerificationService {
    verifying: Arc<Verifying>,
    places: Semaphore,
}

impl VerificationService {
    pub(crate) fn new(verifying: Arc<Verifying>, concurrency: usize) -> Self {
        Self {
            verifying,
            places: Semaphore::new(concurrency),
        }
    }
}

fn status(refused: &Refused) -> Status {
    match refused {
        Refused::Digest(_) => Status::invalid_argument(refused.to_string()),
        Refused::NoTrust => Status::unavailable(refused.to_string()),
    }
}

#[tonic::async_trait]
impl Verification for VerificationService {
    async fn verify(
        &self,
        request: Request<VerifyRequest>,
    ) -> Result<Response<VerifyResponse>, Status> {
        caller_of(&request)?;
        let _place = self.places.try_acquire().map_err(|_| {
            Status::resource_exhausted(
                "too many verifications at once; try again, or send them as one stream",
            )
        })?;
        self.verifying
            .verify(request.get_ref())
            .await
            .map(Response::new)
            .map_err(|refused| status(&refused))
    }

    type VerifyStreamStream = Pin<Box<dyn Stream<Item = Result<VerifyResponse, Status>> + Send>>;

    async fn verify_stream(
        &self,
        request: Request<Streaming<VerifyRequest>>,
    ) -> Result<Response<Self::VerifyStreamStream>, Status> {
        caller_of(&request)?;
        let verifying = Arc::clone(&self.verifying);
        let answers = request.into_inner().map(move |request| {
            let verifying = Arc::clone(&verifying);
            async move {
                verifying
                    .verify(&request?)
                    .await
                    .map_err(|refused| status(&refused))
            }
        });
        Ok(Response::new(Box::pin(answers.buffered(IN_STREAM))))
    }

    async fn get_trust(
        &self,
        request: Request<GetTrustRequest>,
    ) -> Result<Response<GetTrustResponse>, Status> {
        caller_of(&request)?;
        let current = self
            .verifying
            .trust
            .current()
            .await
            .ok_or_else(|| status(&Refused::NoTrust))?;
        Ok(Response::new(GetTrustResponse {
            bundle: current.file.clone(),
            version: current.version(),
        }))
    }
}
