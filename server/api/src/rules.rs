//! Rules and alerts: none are evaluated, and the parameters are checked.

use crate::{
    Failure,
    params::{Params, bool_of},
    reply::{Data, constant, envelope, params},
};
use web::{extract::RawQuery, http::HeaderMap, response::Response};

/// `/rules`.
pub(crate) async fn rules(RawQuery(raw): RawQuery, headers: HeaderMap) -> Response {
    let params = params(raw, &headers, b"");
    envelope(checked(&params).map(|()| Data::from("{\"groups\":[]}".to_owned())), &headers)
}

fn checked(params: &Params) -> Result<(), Failure> {
    let bad = |name: &str, why: String| Err(Failure::bad(format!("invalid parameter {name:?}: {why}")));
    params.matchers()?;
    let kind = params.get("type").unwrap_or_default().to_lowercase();
    if !matches!(kind.as_str(), "" | "alert" | "record") {
        return bad("type", format!("not supported value {kind:?}"));
    }
    if let Some(Err(why)) = params.get("exclude_alerts").map(bool_of) {
        return bad("exclude_alerts", format!("error converting exclude_alerts: {why}"));
    }
    let (limit, token) = (params.get("group_limit"), params.get("group_next_token"));
    match limit.map(str::parse::<i64>) {
        None if token.is_some() => {
            bad("group_next_token", "group_limit needs to be present in order to paginate over the groups".into())
        }
        None => Ok(()),
        Some(Err(_)) => {
            let text = limit.unwrap_or_default();
            let why =
                format!("group_limit needs to be a valid number: strconv.ParseInt: parsing {text:?}: invalid syntax");
            bad("group_limit", why)
        }
        Some(Ok(..=0)) => bad("group_limit", "group_limit needs to be greater than 0".into()),
        Some(Ok(_)) => match token {
            Some(token) => {
                let why = format!("invalid group_next_token '{token}'. were rule groups changed?");
                bad("group_next_token", why)
            }
            None => Ok(()),
        },
    }
}

/// `/alerts`.
pub(crate) async fn alerts(headers: HeaderMap) -> Response {
    constant("{\"alerts\":[]}", &headers)
}

/// `/alertmanagers`.
pub(crate) async fn alertmanagers(headers: HeaderMap) -> Response {
    constant("{\"activeAlertmanagers\":[],\"droppedAlertmanagers\":[]}", &headers)
}
