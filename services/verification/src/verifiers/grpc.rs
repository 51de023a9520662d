//! The `Verifiers` service.

use std::collections::BTreeMap;
use std::sync::Arc;

use sealwarden_pki::{caller_of, require};
use sealwarden_wire::verify::v1::verifiers_server::Verifiers;
use sealwarden_wire::verify::v1::{
    CompareVerdictsRequest, CompareVerdictsResponse, ListVerifiersRequest, ListVerifiersResponse,
    VerifierStatus,
};
use tonic::{Request, Response, Status};

use super::task::{NotCompared, Watched};
use crate::archive::{RESPONDERS, who};

pub(crate) struct VerifiersService {
    watched: BTreeMap<String, Arc<Watched>>,
}

impl VerifiersService {
    pub(crate) fn new(watched: BTreeMap<String, Arc<Watched>>) -> Self {
        Self { watched }
    }

    fn get(&self, name: &str) -> Result<&Arc<Watched>, Status> {
        if self.watched.is_empty() {
            return Err(Status::failed_precondition(
                "no verifier is configured; name one in settings.yaml: verification: verifiers: [{name: fleet, url: https://verify.example.com, archive: main}]",
            ));
        }
        self.watched.get(name).ok_or_else(|| {
            let known: Vec<&str> = self.watched.keys().map(String::as_str).collect();
            let text = format!(
                "there is no verifier {name:?}; there is: {}",
                known.join(", ")
            );
            Status::not_found(text)
        })
    }
}

#[tonic::async_trait]
impl Verifiers for VerifiersService {
    async fn list_verifiers(
        &self,
        request: Request<ListVerifiersRequest>,
    ) -> Result<Response<ListVerifiersResponse>, Status> {
        caller_of(&request)?;
        let verifiers = self.watched.values().map(|it| {
            let name = &it.config.name;
            let known = it.node.board.read(|all| all.verifiers.get(name).cloned());
            VerifierStatus {
                verifier: name.clone(),
                url: it.config.url.clone(),
                archive: it.config.archive.clone(),
                every_s: it.config.every_s,
                last: known.and_then(|known| known.last),
            }
        });
        Ok(Response::new(ListVerifiersResponse {
            verifiers: verifiers.collect(),
        }))
    }

    async fn compare_verdicts(
        &self,
        request: Request<CompareVerdictsRequest>,
    ) -> Result<Response<CompareVerdictsResponse>, Status> {
        let caller = caller_of(&request)?;
        require(&caller, &RESPONDERS)?;
        let watched = self.get(&request.get_ref().verifier)?;
        let compared = watched.compare(&who(&caller)).await.map_err(|e| match e {
            NotCompared::Baseline(reason) => Status::unavailable(reason),
            error @ NotCompared::Log(_) => Status::unavailable(error.to_string()),
        })?;
        Ok(Response::new(CompareVerdictsResponse {
            compared: Some(compared),
        }))
    }
}
