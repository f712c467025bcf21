-- A login and a database for each service. Run by the PostgreSQL image, once, on an empty disk.
\getenv engagement ENGAGEMENT_PASSWORD
\getenv ingestion INGESTION_PASSWORD
\getenv notification NOTIFICATION_PASSWORD
\getenv profile PROFILE_PASSWORD
-- Ingestion's migrations make the role whose rights its connections have.
CREATE ROLE ingestion LOGIN CREATEROLE PASSWORD :'ingestion';
CREATE DATABASE touchline_store OWNER ingestion;
CREATE ROLE engagement LOGIN PASSWORD :'engagement';
CREATE DATABASE touchline_engagement OWNER engagement;
CREATE ROLE notification LOGIN PASSWORD :'notification';
CREATE DATABASE touchline_notification OWNER notification;
CREATE ROLE profile LOGIN PASSWORD :'profile';
CREATE DATABASE touchline_profile OWNER profile;
