<?php
// Configuration of a WordPress that lives as long as a test. server.py gives the two variables.
define('DB_HOST', 'localhost:' . getenv('WORDPRESS_DATABASE_SOCKET'));
define('DB_NAME', 'wordpress');
define('DB_USER', 'root');
define('DB_PASSWORD', '');
define('DB_CHARSET', 'utf8mb4');
$table_prefix = 'wp_';

define('WP_HOME', getenv('WORDPRESS_ADDRESS'));
define('WP_SITEURL', getenv('WORDPRESS_ADDRESS'));
// Application passwords work without https on a 'local' site only.
define('WP_ENVIRONMENT_TYPE', 'local');
// It asks nobody for anything, and does nothing by itself.
define('WP_HTTP_BLOCK_EXTERNAL', true);
define('AUTOMATIC_UPDATER_DISABLED', true);
define('DISABLE_WP_CRON', true);

if (!defined('ABSPATH')) {
    define('ABSPATH', __DIR__ . '/');
}
require_once ABSPATH . 'wp-settings.php';
