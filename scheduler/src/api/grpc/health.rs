//! gRPC's health service, told by the scheduler's own readiness at each question.

use std::time::Duration;

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use tokio::sync::watch;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use super::SERVICE;
use crate::service::Service;

/// How often a watch looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);

#[derive(Clone)]
pub(super) struct HealthOf {
    service: Service,
    /// True when watches are to end.
    closing: watch::Receiver<bool>,
}

impl HealthOf {
    pub(super) fn new(service: Service, closing: watch::Receiver<bool>) -> Self {
        Self { service, closing }
    }

    pub(super) fn into_server(self) -> HealthServer<Self> {
        HealthServer::new(self)
    }

    /// None for a service that there is not.
    fn status(&self, service: &str) -> Option<ServingStatus> {
        let ready = !*self.closing.borrow() && self.service.readiness().is_ok();
        match (service, ready) {
            ("" | SERVICE, true) => Some(ServingStatus::Serving),
            ("" | SERVICE, false) => Some(ServingStatus::NotServing),
            _ => None,
        }
    }
}

fn answer(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse {
        status: status.into(),
    }
}

#[tonic::async_trait]
impl Health for HealthOf {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let service = &request.get_ref().service;
        let status = self
            .status(service)
            .ok_or_else(|| Status::not_found(format!("there is no service '{service}'")))?;
        Ok(Response::new(answer(status)))
    }

    type WatchStream = BoxStream<'static, Result<HealthCheckResponse, Status>>;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let health = self.clone();
        let service = request.into_inner().service;
        let mut closing = self.closing.clone();
        let statuses = stream::unfold(None, move |last| {
            let (health, service) = (health.clone(), service.clone());
            async move {
                loop {
                    let status = health.status(&service);
                    let status = status.unwrap_or(ServingStatus::ServiceUnknown);
                    if last != Some(status) {
                        return Some((Ok(answer(status)), Some(status)));
                    }
                    tokio::time::sleep(LOOK_EVERY).await;
                }
            }
        })
        .take_until(async move { closing.wait_for(|closing| *closing).await.map(drop) });
        Ok(Response::new(statuses.boxed()))
    }
}
