<?php
// php install.php FOLDER < [{"login": ..., "name": ..., "role": ...}, ...]
// Installs the WordPress of that folder and prints {login: application password, ...}.
[, $folder] = $argv;
$_SERVER['HTTP_HOST'] = parse_url(getenv('WORDPRESS_ADDRESS'), PHP_URL_HOST);
$people = json_decode(stream_get_contents(STDIN), true, 512, JSON_THROW_ON_ERROR);

$server = new mysqli('localhost', 'root', '', null, 0, getenv('WORDPRESS_DATABASE_SOCKET'));
$server->query('CREATE DATABASE wordpress CHARACTER SET utf8mb4');

define('WP_INSTALLING', true);
require "$folder/wp-load.php";
require ABSPATH . 'wp-admin/includes/upgrade.php';
wp_install('The harbour gazette', 'webmaster', 'webmaster@gazette.example', true, '', wp_generate_password());
// Not UTC, so that a date and a date_gmt are not the same.
update_option('timezone_string', 'America/St_Johns');
$wp_rewrite->set_permalink_structure('/%year%/%monthnum%/%day%/%postname%/');
$wp_rewrite->flush_rules(false);

$passwords = [];
foreach ($people as ['login' => $login, 'name' => $name, 'role' => $role]) {
    $user = wp_insert_user(wp_slash([
        'user_login' => $login,
        'user_email' => "$login@gazette.example",
        'user_pass' => wp_generate_password(),
        'display_name' => $name,
        'role' => $role,
    ]));
    $made = is_wp_error($user) ? $user
        : WP_Application_Passwords::create_new_application_password($user, ['name' => 'tests']);
    if (is_wp_error($made)) {
        fwrite(STDERR, "$login: {$made->get_error_message()}\n");
        exit(1);
    }
    $passwords[$login] = $made[0];
}
echo json_encode($passwords, JSON_THROW_ON_ERROR);
