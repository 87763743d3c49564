<?php
// php replace.php FOLDER ID < bytes
// Puts other bytes at the address of an attachment, as plugins that replace media do: the file, what WordPress made
// of it, and the date of its change. WordPress' own "Edit image" would give the file another name.
[, $folder, $id] = $argv;
$_SERVER['HTTP_HOST'] = parse_url(getenv('WORDPRESS_ADDRESS'), PHP_URL_HOST);
require "$folder/wp-load.php";
require ABSPATH . 'wp-admin/includes/image.php';

$file = wp_get_original_image_path($id) ?: get_attached_file($id);
file_put_contents($file, stream_get_contents(STDIN));
update_attached_file($id, $file);
wp_update_attachment_metadata($id, wp_generate_attachment_metadata($id, $file));
$updated = wp_update_post(['ID' => $id], true);
if (is_wp_error($updated)) {
    fwrite(STDERR, $updated->get_error_message() . "\n");
    exit(1);
}
