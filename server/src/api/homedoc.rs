//! The two documents that describe the service: the list of versions and the home document of v1.
//! Constants; knows nothing.

/// What `GET /` answers: the versions served.
pub const VERSIONS: &str = concat!(
    r#"{"versions":[{"id":"1","status":"DEPRECATED","updated":"2014-9-11T17:47:05Z","#,
    r#""media-types":[{"base":"application/json","#,
    r#""type":"application/vnd.openstack.messaging-v1+json"}],"#,
    r#""links":[{"href":"/v1/","rel":"self"}]}]}"#,
);

/// What `GET /v1/` answers: the resources and how to reach them.
pub const HOME: &str = concat!(
    r#"{"resources":{"#,
    r#""rel/queues":{"href-template":"/v1/queues{?marker,limit,detailed}","#,
    r#""href-vars":{"marker":"param/marker","limit":"param/queue_limit","#,
    r#""detailed":"param/detailed"},"#,
    r#""hints":{"allow":["GET"],"formats":{"application/json":{}}}},"#,
    r#""rel/queue":{"href-template":"/v1/queues/{queue_name}","#,
    r#""href-vars":{"queue_name":"param/queue_name"},"#,
    r#""hints":{"allow":["GET","HEAD","PUT","DELETE"],"formats":{"application/json":{}}}},"#,
    r#""rel/queue-metadata":{"href-template":"/v1/queues/{queue_name}/metadata","#,
    r#""href-vars":{"queue_name":"param/queue_name"},"#,
    r#""hints":{"allow":["GET","PUT"],"formats":{"application/json":{}}}},"#,
    r#""rel/queue-stats":{"href-template":"/v1/queues/{queue_name}/stats","#,
    r#""href-vars":{"queue_name":"param/queue_name"},"#,
    r#""hints":{"allow":["GET"],"formats":{"application/json":{}}}},"#,
    r#""rel/messages":{"href-template":"#,
    r#""/v1/queues/{queue_name}/messages{?marker,limit,echo,include_claimed}","#,
    r#""href-vars":{"queue_name":"param/queue_name","marker":"param/marker","#,
    r#""limit":"param/messages_limit","echo":"param/echo","#,
    r#""include_claimed":"param/include_claimed"},"#,
    r#""hints":{"allow":["GET"],"formats":{"application/json":{}}}},"#,
    r#""rel/post-messages":{"href-template":"/v1/queues/{queue_name}/messages","#,
    r#""href-vars":{"queue_name":"param/queue_name"},"#,
    r#""hints":{"allow":["POST"],"formats":{"application/json":{}},"#,
    r#""accept-post":["application/json"]}},"#,
    r#""rel/claim":{"href-template":"/v1/queues/{queue_name}/claims{?limit}","#,
    r#""href-vars":{"queue_name":"param/queue_name","limit":"param/claim_limit"},"#,
    r#""hints":{"allow":["POST"],"formats":{"application/json":{}},"#,
    r#""accept-post":["application/json"]}}"#,
    r#"}}"#,
);

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn both_are_json_with_the_members_promised() {
        let versions: Value = serde_json::from_str(VERSIONS).expect("JSON");
        assert_eq!(versions["versions"][0]["links"][0]["href"], "/v1/");
        let home: Value = serde_json::from_str(HOME).expect("JSON");
        let resources = home["resources"].as_object().expect("an object");
        assert_eq!(resources.len(), 7);
        for resource in resources.values() {
            assert!(resource["href-template"].as_str().is_some_and(|t| t.starts_with("/v1/")));
            assert!(resource["hints"]["formats"]["application/json"].is_object());
        }
    }
}
