//! The `Vendors` service.

use std::collections::BTreeMap;
use std::sync::Arc;

use sealwarden_pki::{caller_of, require};
use sealwarden_wire::verify::v1::vendors_server::Vendors;
use sealwarden_wire::verify::v1::{
    ListVendorsRequest, ListVendorsResponse, ProbeVendorRequest, ProbeVendorResponse, VendorStatus,
};
use tonic::{Request, Response, Status};

use super::task::Watched;
use crate::archive::{RESPONDERS, who};

pub(crate) struct VendorsService {
    watched: BTreeMap<String, Arc<Watched>>,
}

impl VendorsService {
    pub(crate) fn new(watched: BTreeMap<String, Arc<Watched>>) -> Self {
        Self { watched }
    }

    fn get(&self, name: &str) -> Result<&Arc<Watched>, Status> {
        if self.watched.is_empty() {
            return Err(Status::failed_precondition(
                "no vendor is probed; name one in settings.yaml: verification: vendors: [{name: stamps-one, tsa: https://tsa.example.com, roots: tsa.pem}]",
            ));
        }
        self.watched.get(name).ok_or_else(|| {
            let known: Vec<&str> = self.watched.keys().map(String::as_str).collect();
            let known = known.join(", ");
            Status::not_found(format!("vendor {name:?} is not probed; these are: {known}"))
        })
    }
}

fn status(it: &Watched) -> VendorStatus {
    let name = &it.config.name;
    let known = it.node.board.read(|all| all.vendors.get(name).cloned());
    let known = known.unwrap_or_default();
    let aside = known.aside.unwrap_or_default();
    VendorStatus {
        vendor: name.clone(),
        probe: it.config.words(),
        every_s: it.config.every_s,
        last: it.last().or(known.last),
        aside_for: aside.fallback,
        aside_since_ms: aside.at_ms,
        aside_incident: aside.incident,
    }
}

#[tonic::async_trait]
impl Vendors for VendorsService {
    async fn list_vendors(
        &self,
        request: Request<ListVendorsRequest>,
    ) -> Result<Response<ListVendorsResponse>, Status> {
        caller_of(&request)?;
        let vendors = self.watched.values().map(|it| status(it));
        Ok(Response::new(ListVendorsResponse {
            vendors: vendors.collect(),
        }))
    }

    async fn probe_vendor(
        &self,
        request: Request<ProbeVendorRequest>,
    ) -> Result<Response<ProbeVendorResponse>, Status> {
        let caller = caller_of(&request)?;
        require(&caller, &RESPONDERS)?;
        let watched = self.get(&request.get_ref().vendor)?;
        let probed = watched
            .probe(&who(&caller))
            .await
            .map_err(|e| Status::unavailable(e.to_string()))?;
        Ok(Response::new(ProbeVendorResponse {
            probed: Some(probed),
        }))
    }
}
