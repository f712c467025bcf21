-- An event that was retried and is rejected still shows the rules that it breaks now.
GRANT UPDATE (violations) ON rejected_events TO touchline_store;
