//! Resources named by a path: found and authorized before the handler runs, and charged if the
//! handler needs no further checks.

use super::auth::{Reader, Writer};
use super::body::PathId;
use super::problem::Problem;
use crate::app::App;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use thrum_schema::ProjectId;

/// A resource of a project that has an ID.
pub trait Named: Sized + Send {
    /// Finds what `id` names in `project`.
    ///
    /// # Errors
    /// 404 if there is no such resource.
    fn find(
        app: &App,
        project: ProjectId,
        id: &str,
    ) -> impl Future<Output = Result<Self, Problem>> + Send;
}

/// A resource to read. The request is charged.
#[derive(Debug)]
pub struct Read<T> {
    /// Who reads it.
    pub reader: Reader,
    /// The resource.
    pub it: T,
}

/// A resource to act on without further checks. The request is charged.
#[derive(Debug)]
pub struct Write<T> {
    /// Who acts on it.
    pub writer: Writer,
    /// The resource.
    pub it: T,
}

/// A resource to change. The handler charges the request once it has validated the change.
#[derive(Debug)]
pub struct Edit<T> {
    /// Who changes it.
    pub writer: Writer,
    /// The resource.
    pub it: T,
}

impl<T: Named> Read<T> {
    /// Finds what `id` names, and charges the reader.
    ///
    /// # Errors
    /// 404, or the charge is refused.
    pub async fn of(app: &App, reader: Reader, id: &str) -> Result<Self, Problem> {
        let it = T::find(app, reader.project, id).await?;
        reader.caller.charge(app).await?;
        Ok(Self { reader, it })
    }
}

impl<T: Named> Write<T> {
    /// Finds what `id` names, and charges the writer.
    ///
    /// # Errors
    /// 404, or the charge is refused.
    pub async fn of(app: &App, writer: Writer, id: &str) -> Result<Self, Problem> {
        Edit::of(app, writer, id).await?.charged(app).await
    }
}

impl<T: Named> Edit<T> {
    /// Finds what `id` names.
    ///
    /// # Errors
    /// 404.
    pub async fn of(app: &App, writer: Writer, id: &str) -> Result<Self, Problem> {
        let it = T::find(app, writer.project, id).await?;
        Ok(Self { writer, it })
    }
}

impl<T> Edit<T> {
    /// Charges the writer, for a change that needs no further checks.
    ///
    /// # Errors
    /// The charge is refused.
    pub async fn charged(self, app: &App) -> Result<Write<T>, Problem> {
        self.writer.caller.charge(app).await?;
        let Self { writer, it } = self;
        Ok(Write { writer, it })
    }
}

impl<T: Named> FromRequestParts<App> for Read<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let reader = Reader::from_request_parts(parts, app).await?;
        let PathId(id) = PathId::from_request_parts(parts, app).await?;
        Self::of(app, reader, &id).await
    }
}

impl<T: Named> FromRequestParts<App> for Write<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let writer = Writer::from_request_parts(parts, app).await?;
        let PathId(id) = PathId::from_request_parts(parts, app).await?;
        Self::of(app, writer, &id).await
    }
}

impl<T: Named> FromRequestParts<App> for Edit<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let writer = Writer::from_request_parts(parts, app).await?;
        let PathId(id) = PathId::from_request_parts(parts, app).await?;
        Self::of(app, writer, &id).await
    }
}
